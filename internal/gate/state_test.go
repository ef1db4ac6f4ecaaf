package gate

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestNext checks the whole transition table: every state under every event. Only a
// held call can be suspended, released or failed. No event refunds a call in one of
// the states started, standing and replayed. No event leaves the states suspended,
// released, refunded and replayed.
func TestNext(t *testing.T) {
	const (
		fre, hel, cpt, sta, std = stateFree, stateHeld, stateCaptured, stateStarted, stateStanding
		sus, rel, ref, fai, rep = stateSuspended, stateReleased, stateRefunded, stateFailed, stateReplayed
	)
	table := [callStates][callEvents]callState{
		//               reserved replayed captured found started suspended released failed refunded
		stateFree:      {hel, rep, fre, fre, fre, fre, fre, fre, fre},
		stateHeld:      {hel, hel, cpt, std, hel, sus, rel, fai, hel},
		stateCaptured:  {cpt, cpt, cpt, std, sta, cpt, cpt, cpt, ref},
		stateStarted:   {sta, sta, sta, sta, sta, sta, sta, sta, sta},
		stateStanding:  {std, std, cpt, std, std, std, std, std, std},
		stateSuspended: {sus, sus, sus, sus, sus, sus, sus, sus, sus},
		stateReleased:  {rel, rel, rel, rel, rel, rel, rel, rel, rel},
		stateRefunded:  {ref, ref, ref, ref, ref, ref, ref, ref, ref},
		stateFailed:    {fai, fai, fai, fai, fai, fai, fai, fai, ref},
		stateReplayed:  {rep, rep, rep, rep, rep, rep, rep, rep, rep},
	}
	for s := range table {
		for e, want := range table[s] {
			if got := next(callState(s), callEvent(e)); got != want {
				t.Errorf("%v on event %d: %v, want %v", callState(s), e, got, want)
			}
		}
	}
}

// TestStates checks that every state has a name of its own. A state counts as
// charged exactly if it has a charge that was not refunded.
func TestStates(t *testing.T) {
	charged := map[callState]bool{stateCaptured: true, stateStarted: true, stateStanding: true, stateReplayed: true}
	names := make(map[string]bool)
	for s := range callState(callStates) {
		if s.charged() != charged[s] {
			t.Errorf("%v: charged %v", s, s.charged())
		}
		names[s.String()] = true
	}
	if len(names) != callStates || names[""] {
		t.Errorf("names %v", names)
	}
}

// silent is a Ledger that must not be used.
type silent struct{ Ledger }

// TestEndedCallsDoNothing checks calls that have nothing left to settle. Release,
// Close, Suspend, Start, and Settle with an outcome that is not charged leave such a
// call as it is, and reach neither the ledger nor the counters.
func TestEndedCallsDoNothing(t *testing.T) {
	for _, s := range []callState{stateFree, stateStarted, stateStanding, stateSuspended, stateReleased, stateRefunded, stateFailed, stateReplayed} {
		b := newBench(t)
		b.deps.Ledger = silent{} // any use of the ledger panics, because the embedded Ledger is nil
		c := &Call{gate: b.Gate, charge: new(ledger.Charge)}
		c.state.Store(uint32(s))
		c.Release(t.Context())
		c.Close(t.Context())
		c.Suspend()
		if refusal := c.Start(t.Context()); refusal != nil {
			t.Errorf("%v: started: %v", s, refusal)
		}
		if _, refusal := c.Settle(t.Context(), mcp.OutcomeToolError, nil); refusal != nil {
			t.Errorf("%v: an outcome that is not charged: %v", s, refusal)
		}
		if got := c.current(); got != s || len(b.meter.results) > 0 || len(b.left.noted) > 0 || len(b.owed) > 0 {
			t.Errorf("%v became %v, counted %v, noted %v, owed %v", s, got, b.meter.results, b.left.noted, b.owed)
		}
	}
}
