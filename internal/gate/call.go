package gate

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Call is one admitted message. A free one has nothing to settle. A paid one
// holds a reservation, and ends in exactly one of: captured, released, or
// captured and then refunded. Its methods may be called from one goroutine at
// a time.
type Call struct {
	gate     *Gate // nil: free
	id       string
	entry    string
	on       pricing.ChargeOn
	when     *pricing.Condition // of its results; nil for none
	order    ledger.Order
	began    time.Time // when it was reserved
	deadline time.Time // the reservation is not renewed beyond it

	charge  *ledger.Charge // set by the capture
	settled bool
	started bool        // captured before it was forwarded: the charge stands
	resumed bool        // its stream goes on where it broke off
	stands  bool        // what it captured was captured before, for another stream
	left    atomic.Bool // it was counted as abandoned
	ticket  atomic.Bool // an event id went out with which its client may come back
	task    *Task       // that it is about, nil for none
	scopes  []string    // that its key needed for it
	terms   ledger.Terms
	kept    bool        // the capture was given an answer to keep
	first   []byte      // the kept answer of a call that was sent again
	due     []mcp.Field // of a started call or a repeated one, for its answer

	mu    sync.Mutex // guards timer: it fires on its own goroutine
	timer *time.Timer
}

// Paid reports whether the call has a price.
func (c *Call) Paid() bool { return c.gate != nil }

// ID returns the charge id of a paid call, "" for a free one.
func (c *Call) ID() string { return c.id }

// Task returns the task that the message is about, nil if it is about none.
func (c *Call) Task() *Task { return c.task }

// Tool returns the name of a paid call's tool.
func (c *Call) Tool() string { return c.order.Tool }

// Price returns what the call costs.
func (c *Call) Price() ledger.Amount { return c.order.Amount }

// First returns the answer of a call that was sent again and was paid the first
// time: with this request's id, and with its receipt. It must not be forwarded.
// Other calls have none.
func (c *Call) First(id mcp.ID) (answer []byte, repeated bool, err error) {
	if c.first == nil {
		return nil, false, nil
	}
	if answer, err = mcp.WithID(c.first, id); err == nil {
		answer, err = mcp.AddMeta(answer, c.due)
	}
	return answer, true, err
}

// Keeps reports whether the answer is kept with its charge, so that a caller
// who did not get it may ask for it again.
func (c *Call) Keeps() bool { return c.terms.Idempotency.Key != "" }

// Captured reports whether the call was charged and has not been refunded.
func (c *Call) Captured() bool { return c.charge != nil }

// Spent reports whether it was captured and has cost something: a free quota
// costs nothing.
func (c *Call) Spent() bool { return c.charge != nil && !c.charge.Waived }

// Charges reports whether an answer of that outcome is charged, by the rule of
// the call's price. At least one of a result and a tool error is.
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

// Reads reports whether Settle looks into the answer.
func (c *Call) Reads() bool { return c.when != nil }

// spares reports whether the operator's condition says of a result that it is not
// charged although its outcome is: it says in words or in a field of its own that
// it failed. What the condition cannot tell is charged, as it would be without
// one, and is told to the operator. The answer is the whole message, nil if it is
// too long to be at hand; with embedded, the result is that of a task.
func (c *Call) spares(ctx context.Context, answer []byte, embedded bool) bool {
	if c.when == nil || c.on.Has(pricing.Started) {
		return false
	}
	charged, err := c.judge(ctx, answer, embedded)
	if err != nil {
		c.log(slog.LevelWarn, "charge_if could not judge a result, which is charged", err)
		c.gate.Metrics.Unjudged(c.entry)
		return false
	}
	return !charged
}

var errNotHeld = errors.New("the answer is too long to be held")

func (c *Call) judge(ctx context.Context, answer []byte, embedded bool) (charged bool, err error) {
	if answer == nil {
		return false, errNotHeld
	}
	result, err := mcp.ResultOf(answer, embedded)
	if err != nil {
		return false, err
	}
	item, err := items.Parse(c.order.Tool)
	if err != nil {
		return false, err
	}
	return c.when.Holds(ctx, item.Name, result)
}

// ChargesAbandoned reports whether an answer is charged as if its client were
// still there when the client has left.
func (c *Call) ChargesAbandoned() bool {
	return c.on.Has(pricing.Abandoned) || c.on.Has(pricing.Started)
}

// Abandoned counts the call against its key: the client has left before the
// answer. It does not if the answer will be charged all the same; cut says
// that none will come, since leaving has ended the call. It may be called from
// any goroutine, and must be called once at most.
func (c *Call) Abandoned(cut bool) {
	if c.gate == nil || c.on.Has(pricing.Started) || c.on.Has(pricing.Abandoned) && !cut {
		return
	}
	if !c.left.Swap(true) {
		c.gate.Abandonments.Note(c.order.Lineage)
	}
}

// Start must be called before a paid call is forwarded. It captures one whose
// price is charged when the call starts; for others it does nothing. A refusal
// means that the call must not be forwarded.
func (c *Call) Start(ctx context.Context) *Refusal {
	if !c.on.Has(pricing.Started) || c.settled {
		return nil
	}
	fields, refusal := c.capture(ctx, nil)
	if refusal != nil {
		refusal.Reason = "The call could not be charged, so it was not sent to the server"
		return refusal
	}
	c.started, c.due = true, fields
	return nil
}

// Settle ends a paid call by its outcome: what the rule of its price charges is
// captured, anything else is not. When it returns without a refusal, what it
// decided is durable and the answer may go to the client, with the fields put
// into its _meta. A refusal means that the answer must be withheld. The answer
// is the whole message, or nil if it is too long to be kept.
func (c *Call) Settle(ctx context.Context, outcome mcp.Outcome, answer []byte) ([]mcp.Field, *Refusal) {
	switch {
	case !c.Charges(outcome):
		c.Release(ctx)
		return nil, nil
	case c.charge != nil: // captured before its end was seen; unless it was at the start, the receipt was due then
		fields := c.due
		c.due = nil
		if outcome == mcp.OutcomeError { // has no place for a receipt
			return nil, nil
		}
		return fields, nil
	case c.settled:
		return nil, &Refusal{Code: ChargeFailed, Cause: ledger.ErrSettled, Tool: c.order.Tool}
	case c.spares(ctx, answer, false):
		c.Release(ctx)
		return nil, nil
	}
	fields, refusal := c.capture(ctx, answer)
	if outcome == mcp.OutcomeError { // of a resumed call that was charged when it started
		fields = nil
	}
	return fields, refusal
}

// capture pays the reservation and returns what the answer tells of it.
func (c *Call) capture(ctx context.Context, answer []byte) ([]mcp.Field, *Refusal) {
	c.stopRenewal()
	c.kept = c.Keeps() && len(answer) > 0
	balance, err := c.take(ctx, answer)
	if err != nil {
		c.failed(ctx, err)
		return nil, &Refusal{Code: ChargeFailed, Cause: err, Tool: c.order.Tool}
	}
	if c.resumed && !c.stands {
		c.gate.Abandonments.Forgive(c.order.Lineage) // noted when its first stream broke off
	}
	return c.fields(balance), nil
}

// take captures the charge, or finds it captured: then it stands, whatever
// becomes of the answer at hand. It returns the payer's balance after it.
func (c *Call) take(ctx context.Context, answer []byte) (ledger.Balance, error) {
	began := c.gate.Now()
	charge, balance, err := c.gate.Ledger.Capture(ctx, c.id, answer)
	if errors.Is(err, ledger.ErrNotFound) { // the reservation was forgotten, by a restart of the store or of this process
		charge, balance, err = c.gate.Ledger.Charge(ctx, c.id, c.order, c.terms, answer)
	}
	c.gate.Metrics.Captured(c.gate.Now().Sub(began))
	switch {
	case err != nil:
		return balance, err
	case charge.Paid() > 0 && charge.Refunded >= charge.Paid():
		return balance, errRefunded
	}
	c.settled, c.charge = true, &charge
	if c.stands = c.mayComeBack() && !charge.Made; !c.stands {
		c.count(ResultCaptured)
	}
	return balance, nil
}

// Release ends the call without a charge: it gives the reservation back, or
// refunds what was captured. On a call that has ended, is free, was charged when
// it started, or repeats one that was paid before, it does nothing. It does not
// fail: a reservation that cannot be given back expires.
func (c *Call) Release(ctx context.Context) {
	switch {
	case c.gate == nil, c.started, c.stands, c.first != nil:
	case c.charge != nil:
		c.refund(ctx)
	case !c.settled:
		c.end(ctx, ResultReleased, nil)
	}
}

var errRefunded = errors.New("the call was refunded")

// Suspend leaves the call as it is, because its stream broke off and its client
// may come back for the rest: the reservation lives on until it expires, and
// what was captured stays so. After it, Close does nothing.
func (c *Call) Suspend() {
	if c.gate == nil || c.settled {
		return
	}
	c.settled = true
	c.stopRenewal()
	c.count(ResultSuspended)
	if !c.resumed && !c.started && !c.left.Swap(true) { // until it is resumed
		c.gate.Abandonments.Note(c.order.Lineage)
	}
}

// Ticket returns what a client needs to come back for the rest of the request's
// stream.
func (c *Call) Ticket(m *mcp.Message) *Ticket {
	t := &Ticket{Request: m.ID, Method: m.Method, scopes: c.scopes}
	if mcp.MayAsk(m.Method) {
		t.asked = func() [32]byte { return mcp.Fingerprint(m) }
	}
	if c.gate != nil {
		t.Charge, t.order, t.on, t.retry, t.entry, t.began = c.id, c.order, c.on, c.terms.Idempotency, c.entry, c.began.Unix()
		t.accepted = func() { c.left.Store(true) } // a task goes on without its client, and counts as nothing that was left
	}
	return t
}

// Resume returns the call of a ticket that the key's account has come back
// with. A paid one is captured under its first charge id, once however often it
// is resumed; if its reservation is gone by then, balance and caps are checked
// again. A key that has lost a scope that the call needed is refused.
func (g *Gate) Resume(key *keys.Key, t *Ticket) (*Call, *Refusal) {
	if refusal := g.permitTicket(key, t); refusal != nil {
		return nil, refusal
	}
	if !t.Paid() {
		return &Call{scopes: t.scopes}, nil
	}
	c := g.callOf(key, t)
	c.began = time.Unix(t.began, 0)
	c.deadline = c.began.Add(g.policy.MaxCall) // however often it is resumed
	c.renew()
	c.startRenewal()
	return c, nil
}

// callOf returns the call of a ticket that says what it costs.
func (g *Gate) callOf(key *keys.Key, t *Ticket) *Call {
	order := t.order
	order.Account, order.Provider, order.Server = key.Account, g.policy.Provider, g.policy.Server
	return &Call{
		gate: g, scopes: t.scopes, id: t.Charge, entry: t.entry, on: t.on, when: g.policy.Prices.Condition(t.entry), order: order, resumed: true,
		terms: ledger.Terms{Key: capsOf(key), Server: g.policy.Caps, FreeCalls: g.policy.FreeCalls, Idempotency: t.retry, Proof: key.ProofText()},
	}
}

// Close ends the call's claims: a call that nothing has settled is released.
// It must be called exactly once, and never fails.
func (c *Call) Close(ctx context.Context) {
	if c.gate != nil && !c.settled {
		c.Release(ctx)
	}
}

// end gives the reservation back. The failure is that of a capture, nil if none
// was asked for.
func (c *Call) end(ctx context.Context, result Result, failure error) {
	c.settled = true
	c.stopRenewal()
	switch err := c.gate.Ledger.Release(ctx, c.id); {
	case result == ResultFailed && errors.Is(err, ledger.ErrSettled):
		// The outcome of the capture was not known when it was asked for. By now
		// it is: the money is taken, and the answer is withheld.
		c.count(result)
		if !c.kept { // else a caller who sends it again gets it for this charge
			c.charge = &ledger.Charge{ID: c.id, Order: c.order}
			c.refund(ctx)
		}
		return
	case err != nil && inDoubt(failure) && !c.kept: // it may be captured all the same, now or later
		c.log(slog.LevelWarn, "a call was not delivered, and it is not known yet whether it was charged", err)
		c.gate.Debts.Owe(c.debt())
	case err != nil && !c.resumed: // of one that is resumed the reservation may be gone
		c.log(slog.LevelWarn, "a reservation could not be given back, it will expire", err)
	}
	c.count(result)
}

// failed ends a call whose capture failed. If its client may come back, nothing
// is given back: the capture may have happened, then or before, and else the
// reservation waits for another attempt until it expires.
func (c *Call) failed(ctx context.Context, err error) {
	if !c.mayComeBack() || errors.Is(err, errRefunded) {
		c.end(ctx, ResultFailed, err)
		return
	}
	c.settled = true
	c.count(ResultFailed)
}

// TicketOut notes that an event id went out with which the call's client may
// come back for its answer. It may be called from any goroutine.
func (c *Call) TicketOut() { c.ticket.Store(true) }

func (c *Call) mayComeBack() bool { return c.resumed || c.ticket.Load() }

// log writes a line about the call, with what every line about a failed call
// says of it.
func (c *Call) log(level slog.Level, message string, cause error) {
	o := &c.order
	c.gate.Logger.Log(context.Background(), level, message, "server", c.gate.policy.Server, "tool", o.Tool, "charge", c.id,
		"account", o.Account, "key", o.Key, "cause", cause)
}

func (c *Call) count(r Result) {
	amount := c.order.Amount
	if c.charge != nil {
		amount = c.charge.Paid()
	}
	c.gate.Metrics.Charge(c.entry, r, amount, c.order.Test)
}

// chargeField is what _meta["dev.farebox/charge"] tells of a charge in plain.
type chargeField struct {
	ID          string        `json:"id"`
	Amount      ledger.Amount `json:"amount"`
	Currency    string        `json:"currency"`
	Environment string        `json:"environment"`
	Balance     ledger.Amount `json:"balance"`
	Free        bool          `json:"free,omitempty"` // a free quota has paid
}

// fields returns what an answer's _meta tells of its charge. Without receipts
// that is nothing.
func (c *Call) fields(balance ledger.Balance) []mcp.Field {
	if !c.gate.policy.Receipts {
		return nil
	}
	receipt := ledger.NewReceipt(c.charge, c.gate.policy.Currency)
	plain, err := json.Marshal(chargeField{
		ID: c.charge.ID, Amount: c.charge.Paid(), Currency: receipt.Currency,
		Environment: receipt.Environment, Balance: balance.Available(), Free: c.charge.Waived,
	})
	jws, signErr := c.gate.Signer.Sign(receipt)
	if err = errors.Join(err, signErr); err != nil {
		c.log(slog.LevelError, "a receipt could not be made", err)
		return nil
	}
	return []mcp.Field{
		{Name: "dev.farebox/charge", Value: plain},
		{Name: "dev.farebox/receipt", Value: []byte(`"` + jws + `"`)}, // base64url and points need no escapes
	}
}

// startRenewal keeps the reservation alive while the call lives: a tool may
// work for longer than ledger.ReservationLife.
func (c *Call) startRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(ledger.ReservationLife/2, c.renew)
}

func (c *Call) renew() {
	if !c.gate.Now().Before(c.deadline) {
		return
	}
	if err := c.gate.Ledger.Renew(context.Background(), c.id); err != nil && !c.resumed {
		c.log(slog.LevelWarn, "a reservation could not be renewed", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Reset(ledger.ReservationLife / 2)
	}
}

func (c *Call) stopRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
