package exchange

import (
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Recorder keeps records of calls that charged nothing. Its methods must be fast and
// safe for concurrent use.
type Recorder interface {
	// Keeps reports whether records with the outcome are kept.
	Keeps(callrecord.Outcome) bool
	// Record takes a record, which the caller must not change afterwards.
	Record(*callrecord.Record)
}

// recordUncharged records a call of a known caller that charged nothing. A charged call
// needs no record, because it has a charge. A call of an unknown caller gets no record,
// because such callers could fill the disk.
func (x *Exchange) recordUncharged() {
	if x.site.Records == nil || x.counted.decision == charged || !x.caller.Known() || !x.isCall() {
		return
	}
	outcome, code := x.uncharged()
	if outcome == "" || !x.site.Records.Keeps(outcome) {
		return
	}
	now := clock.Now()
	x.site.Records.Record(&callrecord.Record{
		At: now, Account: x.caller.Account, Key: x.caller.Subject, Lineage: x.caller.Lineage, Test: x.caller.Environment == keys.Test,
		Server: x.site.Server, Provider: x.site.Gate.Provider(), Method: strings.Clone(x.counted.method), Tool: x.entry(),
		Outcome: outcome, Code: code, Price: x.price(), Status: x.status, Duration: now.Sub(x.timing.began), Trace: x.traceID(),
	})
}

// isCall reports whether the request is one that waits for an answer. The message of a
// refused request may be unknown.
func (x *Exchange) isCall() bool {
	return x.running && x.counted.decision != "" && x.r.Method == http.MethodPost && (x.message.Kind == mcp.KindRequest || x.message.Kind == 0)
}

// uncharged returns the outcome of a call that charged nothing, and its code. It
// returns "" for a call that is not over. It also returns "" for a request that was
// served and asks for no tool, prompt or resource.
func (x *Exchange) uncharged() (callrecord.Outcome, string) {
	switch code := x.code(); {
	case x.left.Load():
		return callrecord.Failed, callrecord.Abandoned
	case code.IsFault():
		return callrecord.Failed, string(code)
	case code != "":
		return callrecord.Refused, string(code)
	case x.counted.decision == replayed:
		return callrecord.Free, callrecord.Replayed
	case x.entry() == "" || x.ended == Suspended:
		return "", ""
	case x.counted.decision == notCharged:
		return x.unpaid()
	}
	return callrecord.Free, callrecord.Unpriced
}

// unpaid returns the outcome of a priced call that was forwarded, had a response and
// was not charged.
func (x *Exchange) unpaid() (callrecord.Outcome, string) {
	switch x.call.Settled() {
	case mcp.OutcomeToolError:
		return callrecord.Failed, callrecord.ToolError
	case mcp.OutcomeError:
		return callrecord.Failed, callrecord.ServerError
	case mcp.OutcomeResult:
		return callrecord.Free, callrecord.Exempt
	case mcp.OutcomeInputRequired, mcp.OutcomeTask: // the call goes on in other requests
		return "", ""
	}
	return callrecord.Failed, callrecord.Abandoned
}

// price returns the price of the call, or nil if it is unknown.
func (x *Exchange) price() *ledger.Amount {
	switch {
	case x.refusal != nil && (x.refusal.Code == gate.InsufficientBalance || x.refusal.Code == gate.SpendingCap || x.refusal.Code == gate.PriceAboveMax):
		return new(x.refusal.Price)
	case x.call != nil && x.call.Paid():
		return new(x.call.Price())
	}
	return nil
}
