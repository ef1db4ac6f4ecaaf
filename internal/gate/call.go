package gate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Call is one admitted message. A free call has nothing to settle. A paid call holds a
// reservation and ends in exactly one state, such as captured, released or refunded;
// see callState. Unless noted otherwise, the methods of a Call may be called from one
// goroutine at a time.
type Call struct {
	gate     *Gate // nil on a free call
	id       string
	entry    string // the price book's entry for the item
	on       pricing.ChargeOn
	when     *pricing.Condition // the charge_if condition on the result; nil without a condition
	order    ledger.Order
	terms    ledger.Terms
	began    time.Time // time of the reservation
	deadline time.Time // the reservation is not renewed after this time
	task     *Task     // nil unless the message is about a task
	scopes   []string  // the scopes that admitting the message required
	resumed  bool      // this call serves the rest of a stream that broke off

	state   atomic.Uint32  // a callState
	charge  *ledger.Charge // set while current().charged() is true
	first   []byte         // the stored response of the first call, if this call is replayed
	due     []mcp.Field    // _meta fields for the response of a call that is replayed, or was charged at its start
	settled mcp.Outcome    // the outcome of the response; OutcomeUnknown before Settle

	reserving, capturing time.Duration // time that the store took for each of the two steps; see Took

	abandoned atomic.Bool // the call was counted as abandoned, or became a task and must never be counted
	ticketOut atomic.Bool // the client has an event id with which it can resume the stream

	parent trace.Parent // the span of the message, the parent of the spans of renewals; zero if no spans are recorded

	mu    sync.Mutex // guards timer, which fires on its own goroutine
	timer *time.Timer
}

func (c *Call) current() callState { return callState(c.state.Load()) }

func (c *Call) move(e callEvent) { c.state.Store(uint32(next(c.current(), e))) }

// Paid reports whether the call has a price. Any goroutine may call Paid.
func (c *Call) Paid() bool { return c.current() != stateFree }

// ID returns the charge id of a paid call, and "" for a free call.
func (c *Call) ID() string { return c.id }

// Task returns the Task that settles a request about a task, or nil if the call is not
// such a request.
func (c *Call) Task() *Task { return c.task }

// Tool returns the name of a paid call's item as it is in charges: the name of a tool,
// or prompt:NAME, resource:URI or method:NAME.
func (c *Call) Tool() string { return c.order.Tool }

// Price returns the price of the call.
func (c *Call) Price() ledger.Amount { return c.order.Amount }

// Entry returns the price book's entry for a paid call, as it is in the labels of
// metrics, and "" for a free call.
func (c *Call) Entry() string { return c.entry }

// Charged returns the amount that this request has charged. It returns false if the
// request has charged nothing. That includes a request with a charge that was refunded,
// and a resumed request that completes a call which an earlier stream has charged. For
// a call under a free quota the amount is zero.
func (c *Call) Charged() (ledger.Amount, bool) {
	if s := c.current(); s != stateCaptured && s != stateStarted {
		return 0, false
	}
	return c.charge.Paid(), true
}

// Settled returns the outcome by which the call was settled, or mcp.OutcomeUnknown.
func (c *Call) Settled() mcp.Outcome { return c.settled }

// Took returns how long the store took to reserve the call's price and to capture it.
// A time is zero for a step that this request has not taken.
func (c *Call) Took() (reserving, capturing time.Duration) { return c.reserving, c.capturing }

// Replay returns the stored response of a call that repeats a paid call. The response
// carries this request's id and the receipt of the first call. A replayed call must not
// be forwarded. For all other calls, replayed is false.
func (c *Call) Replay(id mcp.ID) (response []byte, replayed bool, err error) {
	if c.current() != stateReplayed {
		return nil, false, nil
	}
	if response, err = mcp.WithID(c.first, id); err == nil {
		response, err = mcp.AddMeta(response, c.due)
	}
	return response, true, err
}

// Keeps reports whether the response is stored with its charge, so that a client that
// did not get the response can repeat the call.
func (c *Call) Keeps() bool { return c.terms.Idempotency.Key != "" }

// Captured reports whether the call was charged and has not been refunded.
func (c *Call) Captured() bool { return c.current().charged() }

// Spent reports whether the call was charged an amount. A call under a free quota
// is captured but costs nothing.
func (c *Call) Spent() bool { return c.Captured() && !c.charge.Waived }

// Charges reports whether the price's rule charges a response with this outcome. A
// rule that charges at the start charges every outcome. Other rules charge results,
// tool errors, or both.
func (c *Call) Charges(outcome mcp.Outcome) bool {
	switch {
	case c.on.Has(pricing.Started):
		return true
	case outcome == mcp.OutcomeResult:
		return c.on.Has(pricing.Success)
	case outcome == mcp.OutcomeToolError:
		return c.on.Has(pricing.ToolError)
	}
	return false
}

// ChargesAbandoned reports whether a response is charged even if its client has
// disconnected.
func (c *Call) ChargesAbandoned() bool {
	return c.on.Has(pricing.Abandoned) || c.on.Has(pricing.Started)
}

// Abandoned counts the call against its lineage because the client disconnected before
// the response. A call that was charged at its start does not count. A call that is
// charged even without its client counts only if cut is true: the disconnection has
// then ended the call, so there will be no response to charge. Abandoned may be called
// at most once, by any goroutine.
func (c *Call) Abandoned(cut bool) {
	if !c.Paid() || c.on.Has(pricing.Started) || c.on.Has(pricing.Abandoned) && !cut {
		return
	}
	c.noteAbandoned()
}

func (c *Call) noteAbandoned() {
	if !c.abandoned.Swap(true) {
		c.gate.deps.Abandonments.Note(c.order.Lineage)
	}
}

// TicketOut records that the client was sent an event id with which it can resume
// the stream. Any goroutine may call TicketOut.
func (c *Call) TicketOut() { c.ticketOut.Store(true) }

// mayComeBack reports whether the client can resume the stream.
func (c *Call) mayComeBack() bool { return c.resumed || c.ticketOut.Load() }

// Start must be called before a paid call is forwarded. If the price's rule charges
// at the start, Start captures the call; otherwise it does nothing. A refusal means
// that the call must not be forwarded.
func (c *Call) Start(ctx context.Context) *Refusal {
	if !c.on.Has(pricing.Started) || c.current() != stateHeld {
		return nil
	}
	fields, refusal := c.capture(ctx, nil)
	if refusal != nil {
		refusal.Reason = "The call could not be charged, so it was not sent to the server"
		return refusal
	}
	c.move(eventStarted)
	c.due = fields
	return nil
}

// Settle ends a paid call according to its outcome: it captures the call if the
// price's rule charges that outcome, and otherwise releases it. When it returns
// without a refusal, the decision is durable and the response may go to the client,
// with the returned fields in its _meta. A refusal means that the response must be
// withheld. The response is the whole message, or nil if it is too long to hold.
func (c *Call) Settle(ctx context.Context, outcome mcp.Outcome, response []byte) ([]mcp.Field, *Refusal) {
	c.settled = outcome
	switch {
	case !c.Charges(outcome):
		c.Release(ctx)
		return nil, nil
	case c.Captured(): // if Start captured the call, c.due holds the receipt; otherwise an earlier Settle returned the receipt
		fields := c.due
		c.due = nil
		if outcome == mcp.OutcomeError { // an error has no _meta to carry a receipt
			return nil, nil
		}
		return fields, nil
	case c.current() != stateHeld:
		return nil, &Refusal{Code: ChargeFailed, Cause: ledger.ErrSettled, Tool: c.order.Tool}
	case c.exempt(ctx, response, false):
		c.Release(ctx)
		return nil, nil
	}
	fields, refusal := c.capture(ctx, response)
	if outcome == mcp.OutcomeError { // an error has no _meta; an error is charged here only on a resumed call that is charged at its start
		fields = nil
	}
	return fields, refusal
}

// capture pays the reservation and returns the fields for the response.
func (c *Call) capture(ctx context.Context, response []byte) ([]mcp.Field, *Refusal) {
	c.stopRenewal()
	balance, err := c.take(ctx, response)
	if err != nil {
		c.captureFailed(ctx, err, c.Keeps() && len(response) > 0)
		return nil, &Refusal{Code: ChargeFailed, Cause: err, Tool: c.order.Tool}
	}
	if c.resumed && c.current() != stateStanding {
		c.gate.deps.Abandonments.Forgive(c.order.Lineage) // the call was counted as abandoned when its first stream broke off
	}
	return c.fields(balance), nil
}

// take captures the charge, or finds that it was captured before, for another
// stream of the call. In the second case, this call does not refund the charge, even
// if its own response cannot be delivered. take returns the payer's balance after
// the charge.
func (c *Call) take(ctx context.Context, response []byte) (ledger.Balance, error) {
	ctx, span := c.span(ctx, trace.Capture)
	defer span.End()
	began := c.gate.deps.Now()
	charge, balance, err := c.gate.deps.Ledger.Capture(ctx, c.id, response)
	if errors.Is(err, ledger.ErrNotFound) { // the reservation is lost, because the store or this process has restarted since
		charge, balance, err = c.gate.deps.Ledger.Charge(ctx, c.id, c.order, c.terms, response)
	}
	took := c.gate.deps.Now().Sub(began)
	c.capturing += took
	c.gate.deps.Metrics.Captured(took)
	switch {
	case err != nil:
		refuse(span, &Refusal{Code: ChargeFailed})
		return balance, err
	case charge.Paid() > 0 && charge.Refunded >= charge.Paid():
		return balance, errRefunded
	}
	c.charge = &charge
	if c.mayComeBack() && !charge.Made {
		c.move(eventFound)
		return balance, nil
	}
	c.move(eventCaptured)
	if charge.Waived {
		c.count(Ended{Result: ResultWaived})
	} else {
		c.count(Ended{Result: ResultCaptured, Amount: charge.Paid(), Fee: charge.Fee})
	}
	return balance, nil
}

// Release ends the call without a charge. It gives back an open reservation, and
// refunds a charge that this call has captured. In every other state it does
// nothing. It cannot fail, because a reservation that is not given back expires.
func (c *Call) Release(ctx context.Context) {
	//exhaustive:enforce
	switch c.current() {
	case stateHeld:
		c.giveBack(ctx)
	case stateCaptured:
		c.refund(ctx)
	case stateFree, stateStarted, stateStanding, stateSuspended, stateReleased, stateRefunded, stateFailed, stateReplayed:
	}
}

// Suspend ends the call for this stream, because the stream broke off and the client
// may resume it. The reservation stays in place, but is no longer renewed. A captured
// call stays captured.
func (c *Call) Suspend() {
	if c.current() != stateHeld {
		return
	}
	c.move(eventSuspended)
	c.stopRenewal()
	c.count(Ended{Result: ResultSuspended})
	if !c.resumed {
		c.noteAbandoned() // Forgive takes this back when a resumed stream of the call is charged
	}
}

// Close releases a call that has not been settled. Close must be called exactly once,
// and cannot fail.
func (c *Call) Close(ctx context.Context) {
	if c.current() == stateHeld {
		c.Release(ctx)
	}
}

// giveBack releases the reservation in the ledger.
func (c *Call) giveBack(ctx context.Context) {
	c.move(eventReleased)
	c.stopRenewal()
	c.logUnreleased(c.release(ctx))
	c.count(Ended{Result: ResultReleased})
}

// release releases the reservation in the ledger. It does not change the state of the
// call.
func (c *Call) release(ctx context.Context) error {
	ctx, span := c.span(ctx, trace.Release)
	err := c.gate.deps.Ledger.Release(ctx, c.id)
	EndSpan(span, storeRefusal(err))
	return err
}

// captureFailed ends a call after a failed capture. If the client can resume the
// stream, the reservation is not given back, because the capture may have happened, now
// or on an earlier stream. If the capture has not happened, a later attempt can use the
// reservation until the reservation expires. If stored is true, the failed capture was
// given a response to store.
func (c *Call) captureFailed(ctx context.Context, cause error, stored bool) {
	c.move(eventFailed)
	if c.mayComeBack() && !errors.Is(cause, errRefunded) {
		c.count(Ended{Result: ResultFailed})
		return
	}
	c.stopRenewal()
	switch err := c.release(ctx); {
	case errors.Is(err, ledger.ErrSettled):
		// The failed Capture left the outcome unknown. Release has now found that
		// the call is settled: the money was taken, and the response is withheld.
		if stored { // the client gets the response by repeating the call
			c.count(Ended{Result: ResultFailed})
			return
		}
		c.charge = &ledger.Charge{ID: c.id, Order: c.order}
		c.refund(ctx) // refund also counts the end of the call
		return
	case err != nil && inDoubt(cause) && !stored: // the call may have been captured, or may still be captured later
		c.log(slog.LevelWarn, "a call was not delivered, and it is not known yet whether it was charged", err)
		c.gate.deps.Debts.Owe(c.debt())
	default:
		c.logUnreleased(err)
	}
	c.count(Ended{Result: ResultFailed})
}

// logUnreleased logs the failure of a release. It logs nothing for a resumed call,
// because that call's reservation may simply have expired.
func (c *Call) logUnreleased(err error) {
	if err != nil && !c.resumed {
		c.log(slog.LevelWarn, "a reservation could not be given back, it will expire", err)
	}
}

// log writes a line about the call, with the attributes that all such lines
// share.
func (c *Call) log(level slog.Level, message string, cause error) {
	o := &c.order
	c.gate.deps.Logger.Log(context.Background(), level, message, "server", c.gate.policy.Server, "tool", o.Tool, "charge", c.id,
		"account", o.Account, "key", o.Key, "cause", cause)
}

// count counts the end of the call. The caller sets all fields of e except Entry and
// Test, which count sets.
func (c *Call) count(e Ended) {
	e.Entry, e.Test = c.entry, c.order.Test
	c.gate.deps.Metrics.Charge(e)
}
