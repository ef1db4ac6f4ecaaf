package intercept

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

var (
	bools    = []bool{false, true}
	stages   = []stage{unsettled, precaptured, answered}
	classes  = []mcp.Class{mcp.ClassMalformed, mcp.ClassEmpty, mcp.ClassPassing, mcp.ClassAnswer, mcp.ClassForeign}
	outcomes = []mcp.Outcome{mcp.OutcomeUnknown, mcp.OutcomeResult, mcp.OutcomeToolError, mcp.OutcomeError, mcp.OutcomeInputRequired, mcp.OutcomeTask}
)

// TestJudgeBody checks that only a body that is exactly one response to the request
// leads to a charge. Every other body is refused, or passes as the upstream's own
// error.
func TestJudgeBody(t *testing.T) {
	for _, class := range classes {
		for _, status := range []int{200, 400} {
			for _, hasResult := range bools {
				want := withhold
				switch {
				case status == 400 && !hasResult:
					want = pass
				case status == 200 && class == mcp.ClassAnswer:
					want = settle
				}
				if got := judgeBody(mcp.Verdict{Class: class}, status, hasResult); got.action != want {
					t.Errorf("%v, %d, result %v: got %d, want %d", class, status, hasResult, got.action, want)
				}
			}
		}
	}
}

// TestJudgeOutcome checks the action for each outcome. A paid call never passes a
// result that cannot be priced. A client that has left is charged only if the call
// charges abandoned responses.
func TestJudgeOutcome(t *testing.T) {
	for _, outcome := range outcomes {
		for n := range 1 << 4 {
			f := outcomeFacts{outcome: outcome, charged: n&1 > 0, paid: n&2 > 0, binds: n&4 > 0, abandoned: n&8 > 0}
			want := settle
			switch {
			case f.paid && outcome == mcp.OutcomeUnknown, f.paid && outcome == mcp.OutcomeTask && !f.binds:
				want = withhold
			case f.abandoned:
				want = abandon
			case outcome == mcp.OutcomeTask && f.binds && !f.charged:
				want = suspend
			}
			if got := judgeOutcome(f); got.action != want || (got.reason == "") == (want == withhold) {
				t.Errorf("%+v: got %+v, want %d", f, got, want)
			}
		}
	}
}

// TestJudgeEvent checks that an event waits for its settlement if it may be the
// response. No second response passes.
func TestJudgeEvent(t *testing.T) {
	for _, class := range classes {
		for _, fate := range []mcp.Fate{mcp.FateWithheld, mcp.FateLeftOut, mcp.FatePasses} {
			for _, s := range stages {
				for _, guarded := range bools {
					for _, allowed := range bools {
						want := map[mcp.Fate]action{mcp.FateWithheld: withhold, mcp.FateLeftOut: leaveOut, mcp.FatePasses: pass}[fate]
						if s == answered && fate == mcp.FateWithheld {
							want = leaveOut
						}
						switch class {
						case mcp.ClassEmpty, mcp.ClassPassing:
							want = pass
							if guarded && !allowed {
								want = omit
							}
						case mcp.ClassAnswer:
							want = settle
							if s == answered {
								want = omit
							}
						}
						v := mcp.Verdict{Class: class, Guarded: guarded}
						if got := judgeEvent(v, allowed, fate, s); got.action != want {
							t.Errorf("%v, %v, stage %d, guarded %v, allowed %v: got %d, want %d", class, fate, s, guarded, allowed, got.action, want)
						}
					}
				}
			}
		}
	}
}

// TestJudgeLong checks that a long response streams only after it has been settled.
// The only long event that passes without a capture is a notification or server
// request that any client may see.
func TestJudgeLong(t *testing.T) {
	for _, s := range stages {
		for n := range 1 << 5 {
			f := longFacts{status: 200, stage: s, rewrites: n&1 > 0, otherType: n&2 > 0, guarded: n&4 > 0, passing: n&8 > 0}
			if n&16 > 0 {
				f.status = 500
			}
			want := settle
			switch {
			case f.status == 500:
				want = withhold
			case f.otherType:
				want = leaveOut
			case s == answered:
				want = end
			case f.rewrites, f.guarded:
				want = withhold
			case f.passing:
				want = pass
			}
			if got := judgeLong(f); got.action != want || (got.reason == "") == (want == withhold) {
				t.Errorf("%+v: got %+v, want %d", f, got, want)
			}
		}
	}
}

// TestJudgeLongEvent checks the decision at the end of a long event. The charge
// stands only for a response with a charged outcome. The last byte is sent only if
// the client may read the whole event.
func TestJudgeLongEvent(t *testing.T) {
	for _, s := range []state{streamEvent, passEvent, readEvent} {
		for _, class := range classes {
			for _, guarded := range bools {
				for _, charged := range bools {
					want := cut
					switch {
					case class == mcp.ClassEmpty, class == mcp.ClassPassing && !guarded:
						want = pass
					case class == mcp.ClassAnswer && s == readEvent:
						want = settle
					case class == mcp.ClassAnswer && charged:
						want = accept
					case class == mcp.ClassAnswer:
						want = release
					}
					if got := judgeLongEvent(s, mcp.Verdict{Class: class, Guarded: guarded}, charged); got.action != want {
						t.Errorf("state %d, %v, guarded %v, charged %v: got %d, want %d", s, class, guarded, charged, got.action, want)
					}
				}
			}
		}
	}
	for _, s := range stages {
		for _, otherType := range bools {
			want := leaveOut
			if !otherType && s != answered {
				want = withhold
			}
			if got := judgeSkipped(otherType, s); got.action != want {
				t.Errorf("skipped, stage %d, other type %v: got %d, want %d", s, otherType, got.action, want)
			}
		}
	}
}

// TestJudgeEnd checks that a stream without a response is not charged, unless a
// charged response was sent and only its end is missing. A call is suspended only if
// its client can come back.
func TestJudgeEnd(t *testing.T) {
	failures := []*gate.Refusal{nil, {Code: gate.UpstreamFailed}, {Code: gate.UpstreamTimeout}}
	for _, st := range []state{holdEvent, streamEvent, passEvent, readEvent, skipEvent} {
		for _, s := range stages {
			for i, failure := range failures {
				for n := range 1 << 3 {
					f := endFacts{state: st, stage: s, failure: failure, gone: n&1 > 0, resumable: n&2 > 0, charged: n&4 > 0}
					want := map[state]action{passEvent: release, streamEvent: refund}[st]
					switch whole := st != streamEvent && st != readEvent; {
					case s == answered:
						want = end
					case f.resumable && whole && (i < 2 || f.gone):
						want = suspend
					case st == streamEvent && f.charged:
						want = accept
					}
					if got := judgeEnd(f); got.action != want {
						t.Errorf("%+v: got %d, want %d", f, got.action, want)
					}
				}
			}
		}
	}
}

// TestJudgeSettled checks that a settled response passes unless its client has left.
func TestJudgeSettled(t *testing.T) {
	for _, gone := range bools {
		for _, comesBack := range bools {
			want := map[[2]bool]action{{true, true}: leave, {true, false}: abandon}[[2]bool{gone, comesBack}]
			if !gone {
				want = pass
			}
			if got := judgeSettled(gone, comesBack); got.action != want {
				t.Errorf("gone %v, comes back %v: got %d, want %d", gone, comesBack, got.action, want)
			}
		}
	}
}
