package gate

import (
	"context"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Task is one request about a task of the caller's account: what it is, to
// cancel it, or for its result. The answer that carries the result is paid
// before it passes, under the charge id of the call that the task is of, once
// however often it is asked for. Its methods may be called from one goroutine
// at a time.
type Task struct {
	gate   *Gate
	id     string
	method string
	scopes []string // that the task's call needed
	call   *Call    // that the task is of; nil if it is free
	open   bool     // its reservation holds credits
	fresh  bool     // this request has paid for it
	blind  bool     // what the task costs is not known
	due    []mcp.Field
}

// task finds the task that the message is about. Asking for a task lets its
// reservation live on, and its binding.
func (g *Gate) task(ctx context.Context, key *keys.Key, m *mcp.Message) (*Task, *Refusal) {
	binding, ours, refusal := g.bound(ctx, boundTask, ownerOf(key), m.TaskID)
	if refusal != nil {
		return nil, refusal
	}
	if !ours {
		return nil, g.unknownTask(ctx, m)
	}
	kept, err := readTask(binding.Payload)
	if err != nil {
		return nil, &Refusal{Code: StoreUnavailable, Cause: err}
	}
	if refusal := g.permitTicket(key, &kept.ticket); refusal != nil {
		return nil, refusal
	}
	if now := g.Now(); binding.Until.Sub(now) < bondLife/2 {
		binding.Until = now.Add(bondLife)
		if refusal := g.bind(ctx, binding); refusal != nil {
			return nil, refusal
		}
	}
	t := &Task{gate: g, id: m.TaskID, method: m.Method, scopes: kept.ticket.scopes}
	if kept.ticket.Paid() {
		t.revive(ctx, key, kept)
	}
	return t, nil
}

// Ticket returns what a client needs to come back for the rest of the request's
// stream. For its result alone it tells what the task costs.
func (t *Task) Ticket(m *mcp.Message) *Ticket {
	if t.call == nil || t.method != mcp.MethodTaskResult {
		return &Ticket{Request: m.ID, Method: m.Method, scopes: t.scopes}
	}
	return t.call.Ticket(m)
}

// ResumeTask returns the request about a task of which the ticket says that it
// is the rest of its stream.
func (g *Gate) ResumeTask(ctx context.Context, key *keys.Key, ticket *Ticket) (*Task, *Refusal) {
	if refusal := g.permitTicket(key, ticket); refusal != nil {
		return nil, refusal
	}
	t := &Task{gate: g, method: ticket.Method, scopes: ticket.scopes, blind: ticket.Method != mcp.MethodTaskResult}
	if ticket.Paid() {
		t.revive(ctx, key, g.newTask(ticket))
	}
	return t, nil
}

// revive takes up the call that the task is of.
func (t *Task) revive(ctx context.Context, key *keys.Key, kept *remembered) {
	g, ticket := t.gate, &kept.ticket
	t.call = g.callOf(key, ticket)
	t.call.deadline = kept.deadline
	if g.Now().Before(kept.deadline) {
		t.open = g.Ledger.Renew(ctx, ticket.Charge) == nil
	}
	if t.open {
		t.call.startRenewal() // the answer may take as long as the task
	}
}

// Tool returns the name of the tool of a paid task, "" for a free one.
func (t *Task) Tool() string {
	if t.call == nil {
		return ""
	}
	return t.call.Tool()
}

// ChargeID returns the charge id of a paid task, "" for a free one.
func (t *Task) ChargeID() string {
	if t.call == nil {
		return ""
	}
	return t.call.ID()
}

// Paid reports that the request itself has no price: the task has.
func (t *Task) Paid() bool { return false }

// Captured reports whether this request has paid for the task.
func (t *Task) Captured() bool { return t.fresh }

// Abandoned counts nothing: the task goes on, and can be asked for again.
func (t *Task) Abandoned(bool) {}

// Keeps reports that the server keeps the result for who comes back.
func (t *Task) Keeps() bool { return true }

// Reads reports whether Settle looks into the answer.
func (t *Task) Reads() bool { return true }

// Charges reports whether a result of that outcome is charged.
func (t *Task) Charges(outcome mcp.Outcome) bool { return t.call != nil && t.call.Charges(outcome) }

// ChargesAbandoned reports that nothing is charged to a client that has left
// before the result came: it can be had later.
func (t *Task) ChargesAbandoned() bool { return false }

// Suspend leaves the task as it is.
func (t *Task) Suspend() {
	if t.call != nil {
		t.call.stopRenewal()
	}
}

// Release ends the request because its answer is withheld. What was paid stays
// paid: the result can be asked for again, free, and another request may have
// brought it already.
func (t *Task) Release(context.Context) { t.Suspend() }

// Settle pays for the result in the answer, if there is one and it is charged
// by the rule of the call's price. A task whose end is known not to be charged
// gives its reservation back. A refusal means that the answer must be withheld.
// The answer is the whole message; it may be nil for tasks/result alone, if it is
// too long to be at hand.
func (t *Task) Settle(ctx context.Context, outcome mcp.Outcome, answer []byte) ([]mcp.Field, *Refusal) {
	defer t.Suspend()
	if outcome == mcp.OutcomeError || outcome == mcp.OutcomeInputRequired {
		return nil, nil
	}
	if t.method == mcp.MethodTaskResult {
		return t.pay(ctx, outcome, answer, false)
	}
	told, err := mcp.ReadHandles(answer)
	switch {
	case err != nil:
		return nil, &Refusal{Code: UpstreamFailed, Cause: err}
	case told.Mixed:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("it told of a task and of a result in one")}
	case t.blind && told.Embedded != mcp.OutcomeUnknown:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("it embedded a result on a stream that goes on: ask for the task again")}
	case told.TaskID != "" && t.id != "" && told.TaskID != t.id:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("it told of another task than it was asked for")}
	case told.Embedded != mcp.OutcomeUnknown:
		var refusal *Refusal
		t.due, refusal = t.pay(ctx, told.Embedded, answer, true) // for Dress: they belong into what is embedded
		return nil, refusal
	case told.Status == "cancelled", told.Status == "failed" && !t.Charges(mcp.OutcomeToolError):
		t.end(ctx)
	}
	return nil, nil
}

// Dress puts the receipt into the result that is embedded in the answer, which may
// be a whole event, and takes out what only the gateway may say there.
func (t *Task) Dress(answer []byte, event bool) ([]byte, error) {
	if event {
		return mcp.AddTaskMetaToEvent(answer, t.due)
	}
	return mcp.AddTaskMeta(answer, t.due)
}

// end gives the reservation back of a task that will have no result to pay.
func (t *Task) end(ctx context.Context) {
	if t.call == nil || !t.open || t.call.on.Has(pricing.Started) {
		return
	}
	t.open = false
	t.call.stopRenewal()
	if err := t.gate.Ledger.Release(ctx, t.call.id); err == nil {
		t.call.count(ResultReleased)
	}
}

// pay captures the charge of the task's call, or gives again what it gave first.
// The result is that of the answer, or with embedded the one that is within it.
func (t *Task) pay(ctx context.Context, outcome mcp.Outcome, answer []byte, embedded bool) ([]mcp.Field, *Refusal) {
	c := t.call
	switch {
	case c == nil:
		return nil, nil
	case !c.Charges(outcome), c.exempt(ctx, answer, embedded):
		t.end(ctx)
		return nil, nil
	}
	c.stopRenewal()
	// The answer is not kept for who sends the call itself again: it is no answer to it.
	balance, err := c.take(ctx, nil)
	if err != nil {
		c.count(ResultFailed)
		return nil, t.withheld(err)
	}
	t.fresh = c.current() != stateStanding
	return c.fields(balance), nil
}

// withheld says why the result of a task cannot be had. The task stays, and
// what was wrong may be put right.
func (t *Task) withheld(err error) *Refusal {
	r := t.gate.refusal(err, &t.call.order)
	const again = "Its result is kept back and nothing was charged: ask for it again once "
	switch r.Code {
	case InsufficientBalance:
		r.Reason = fmt.Sprintf("The task of the tool %q has ended, but it costs %s %s and the account has only %s %s available. %sthe operator of this gateway has topped the account up.",
			r.Tool, r.Price, r.Currency, r.Available, r.Currency, again)
	case SpendingCap:
		r.Reason = fmt.Sprintf("The task of the tool %q has ended, but it costs %s %s and a spending cap of %s %s is reached. %sthe cap begins anew or was raised.",
			r.Tool, r.Price, r.Currency, r.Cap.Amount, r.Currency, again)
	default:
		r = &Refusal{Code: ChargeFailed, Cause: err, Tool: r.Tool}
	}
	return r
}
