package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Task is one request about a task of the caller's account. The request asks for the
// task's status or result, or cancels the task. A response that carries the result is
// paid for before it is forwarded, under the charge id of the call that became the
// task. The result is paid for once, no matter how often the client asks for it. The
// methods of a Task may be called from one goroutine at a time.
type Task struct {
	gate   *Gate
	id     string
	method string
	scopes []string // the scopes that the task's call required
	call   *Call    // the call that became the task; nil if the task is free
	open   bool     // the call's reservation still exists
	fresh  bool     // this request has paid for the task
	blind  bool     // resumed from a ticket that does not include the task's price
	due    []mcp.Field
}

// task returns the Task for the caller's request m. kept is the task that m is about;
// if kept is nil, task returns nil. If the task is paid, task renews the reservation.
func (g *Gate) task(ctx context.Context, caller *Caller, m *mcp.Message, kept *remembered) *Task {
	if kept == nil {
		return nil
	}
	t := &Task{gate: g, id: m.TaskID, method: m.Method, scopes: kept.ticket.scopes}
	if kept.ticket.Paid() {
		t.revive(ctx, caller, kept)
	}
	return t
}

// Ticket returns the ticket of the stream that answers the request m. It includes
// the price of the task's call only for tasks/result.
func (t *Task) Ticket(m *mcp.Message) *Ticket {
	if t.call == nil || t.method != mcp.MethodTaskResult {
		return &Ticket{Request: m.ID, Method: m.Method, scopes: t.scopes}
	}
	return t.call.Ticket(m)
}

// ResumeTask returns the Task for a request that resumes a stream about a task. The
// ticket is the stream's.
func (g *Gate) ResumeTask(ctx context.Context, caller *Caller, ticket *Ticket) (*Task, *Refusal) {
	if refusal := g.permitTicket(caller, ticket); refusal != nil {
		return nil, refusal
	}
	t := &Task{gate: g, method: ticket.Method, scopes: ticket.scopes, blind: ticket.Method != mcp.MethodTaskResult}
	if ticket.Paid() {
		until := time.Unix(ticket.began, 0).Add(g.policy.MaxCall) // resuming does not extend this deadline
		t.revive(ctx, caller, &remembered{ticket: *ticket, deadline: until})
	}
	return t, nil
}

// revive restores the task's call and renews its reservation.
func (t *Task) revive(ctx context.Context, caller *Caller, kept *remembered) {
	g, ticket := t.gate, &kept.ticket
	t.call = g.callOf(ctx, caller, ticket)
	t.call.deadline = kept.deadline
	t.call.began = kept.deadline.Add(-g.policy.MaxCall) // the call's tickets carry began, from which ResumeTask computes the deadline again
	if g.deps.Now().Before(kept.deadline) {
		t.open = t.call.prolong(ctx) == nil
	}
	if t.open {
		t.call.startRenewal() // renew the reservation, because the response may take as long as the task
	}
}

// Tool returns the name of the tool of a paid task, and "" for a free task.
func (t *Task) Tool() string {
	if t.call == nil {
		return ""
	}
	return t.call.Tool()
}

// ChargeID returns the charge id of a paid task, and "" for a free task.
func (t *Task) ChargeID() string {
	if t.call == nil {
		return ""
	}
	return t.call.ID()
}

// Entry returns the price book's entry for a paid task, and "" for a free task.
func (t *Task) Entry() string {
	if t.call == nil {
		return ""
	}
	return t.call.Entry()
}

// Charged returns the amount that this request has charged for the task. It returns
// false if the request has charged nothing.
func (t *Task) Charged() (ledger.Amount, bool) {
	if !t.fresh {
		return 0, false
	}
	return t.call.Charged()
}

// Took returns how long the store took to capture the price of the task. reserving is
// always zero, because the price was reserved by an earlier request, the one that
// became the task.
func (t *Task) Took() (reserving, capturing time.Duration) {
	if t.call == nil {
		return 0, 0
	}
	return t.call.Took()
}

// Paid always returns false, because the price belongs to the task and not to this
// request.
func (t *Task) Paid() bool { return false }

// Captured reports whether this request has paid for the task.
func (t *Task) Captured() bool { return t.fresh }

// Abandoned does nothing, because the task goes on and the client can ask for its
// result later.
func (t *Task) Abandoned(bool) {}

// Keeps always returns true, because the server keeps the result, so that the client
// can ask for it again.
func (t *Task) Keeps() bool { return true }

// Reads always returns true, because Settle needs to read the response.
func (t *Task) Reads() bool { return true }

// Charges reports whether a result with this outcome is charged.
func (t *Task) Charges(outcome mcp.Outcome) bool { return t.call != nil && t.call.Charges(outcome) }

// ChargesAbandoned always returns false, because a client that has disconnected can ask
// for the result later.
func (t *Task) ChargesAbandoned() bool { return false }

// Suspend stops renewing the reservation, and otherwise leaves the task as it is.
func (t *Task) Suspend() {
	if t.call != nil {
		t.call.stopRenewal()
	}
}

// Release ends the request because its response is withheld. A charge is not
// refunded, because the client can ask for the result again without paying, and
// another request may have delivered it already.
func (t *Task) Release(context.Context) { t.Suspend() }

// Settle pays for the result in the response, if the response has a result and the
// price's rule charges this result. A task that has ended without a charge gives its
// reservation back. A refusal means that the response must be withheld. response is the
// whole message. For tasks/result only, response may be nil: the message is then too
// long to hold.
func (t *Task) Settle(ctx context.Context, outcome mcp.Outcome, response []byte) ([]mcp.Field, *Refusal) {
	defer t.Suspend()
	if outcome == mcp.OutcomeError || outcome == mcp.OutcomeInputRequired {
		return nil, nil
	}
	if t.method == mcp.MethodTaskResult {
		return t.pay(ctx, outcome, response, false)
	}
	handles, err := mcp.ReadHandles(response)
	switch {
	case err != nil:
		return nil, &Refusal{Code: UpstreamFailed, Cause: err}
	case handles.Mixed:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("its response contains both a task and a result")}
	case t.blind && handles.Embedded != mcp.OutcomeUnknown:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("it embedded a result in a resumed stream: ask for the task again")}
	case handles.TaskID != "" && t.id != "" && handles.TaskID != t.id:
		return nil, &Refusal{Code: UpstreamFailed, Cause: errors.New("its response is about another task than the request")}
	case handles.Embedded != mcp.OutcomeUnknown:
		var refusal *Refusal
		t.due, refusal = t.pay(ctx, handles.Embedded, response, true) // AddMeta puts these fields into the embedded result
		return nil, refusal
	case handles.Status == "cancelled", handles.Status == "failed" && !t.Charges(mcp.OutcomeToolError):
		t.end(ctx)
	}
	return nil, nil
}

// AddMeta adds the receipt to the result that is embedded in the response, and removes
// fields that only the gateway may set. If event is true, the response is a whole
// server-sent event.
func (t *Task) AddMeta(response []byte, event bool) ([]byte, error) {
	if event {
		return mcp.AddTaskMetaToEvent(response, t.due)
	}
	return mcp.AddTaskMeta(response, t.due)
}

// end gives back the reservation of a task that will have no result to pay for.
func (t *Task) end(ctx context.Context) {
	if t.call == nil || !t.open || t.call.on.Has(pricing.Started) {
		return
	}
	t.open = false
	t.call.stopRenewal()
	if err := t.call.release(ctx); err == nil {
		t.call.count(Ended{Result: ResultReleased})
	}
}

// pay captures the charge of the task's call, unless that was done before, and returns
// the fields of the charge. If embedded is true, the result is embedded in the
// response; otherwise the result is the response's own result.
func (t *Task) pay(ctx context.Context, outcome mcp.Outcome, response []byte, embedded bool) ([]mcp.Field, *Refusal) {
	c := t.call
	switch {
	case c == nil:
		return nil, nil
	case !c.Charges(outcome), c.exempt(ctx, response, embedded):
		t.end(ctx)
		return nil, nil
	}
	c.stopRenewal()
	// Store no response with the charge. This response answers a request about the
	// task, so it could not answer a repetition of the call.
	balance, err := c.take(ctx, nil)
	if err != nil {
		c.count(Ended{Result: ResultFailed})
		return nil, t.withheld(err)
	}
	t.fresh = c.current() != stateStanding
	return c.fields(balance), nil
}

// withheld returns the refusal for a task's result that is held back. The task
// stays, so that the client can ask again after the cause is resolved.
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
