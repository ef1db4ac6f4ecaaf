package gate

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Ticket describes the request that a stream answers. A client that returns with the
// id of one of the stream's events gets the rest of the stream, and the call is paid
// for only once. The ticket travels, sealed, in each event id.
type Ticket struct {
	// Request and Method are the id and the method from the request that the stream
	// answers. Request is the zero ID for a stream that a client has opened by GET.
	Request mcp.ID
	Method  string
	// Charge is the charge id of a paid call, "" if the stream is free.
	Charge string

	scopes      []string // scopes that the caller needs, also while the stream is served
	began       int64    // time of the reservation, or of the acceptance as a task, in seconds since 1970
	order       ledger.Order
	on          pricing.ChargeOn
	idempotency ledger.Idempotency
	entry       string

	origin *origin // not part of the sealed form, so nil on a resumed stream
}

// ListenerTicket returns the ticket of a stream that a client has opened by GET.
// Such a stream answers no request, costs nothing and needs no scope.
func ListenerTicket() *Ticket { return new(Ticket) }

// Paid reports whether the stream belongs to a paid call.
func (t *Ticket) Paid() bool { return t.Charge != "" }

// origin is the request for which a ticket was made. A ticket has an origin only as
// long as this request is being served.
type origin struct {
	call    *Call
	message *mcp.Message
}

// fingerprint identifies the client's request, for which the server may ask for further
// input. The fingerprint is zero if the server cannot ask for input under the request's
// method. It is also zero on a resumed stream.
func (o *origin) fingerprint() (f [32]byte) {
	if o == nil || !mcp.MayAsk(o.message.Method) {
		return f
	}
	return mcp.Fingerprint(o.message)
}

// accepted records that the server has accepted the call as a task. A task goes on
// without its client, so disconnecting does not count as abandoning the call.
func (o *origin) accepted() {
	if o != nil {
		o.call.abandoned.Store(true)
	}
}

// Ticket returns the ticket of the stream that answers the request m.
func (c *Call) Ticket(m *mcp.Message) *Ticket {
	t := &Ticket{Request: m.ID, Method: m.Method, scopes: c.scopes, origin: &origin{call: c, message: m}}
	if c.Paid() {
		t.Charge, t.order, t.on, t.idempotency, t.entry, t.began = c.id, c.order, c.on, c.terms.Idempotency, c.entry, c.began.Unix()
	}
	return t
}

// Resume returns the call of a ticket that a client of the same account has sent back.
// A paid call is captured once, under its first charge id, no matter how often the call
// is resumed. If the call's reservation is gone by then, balance and caps are checked
// again. A caller that has lost a scope of the call is refused.
func (g *Gate) Resume(ctx context.Context, caller *Caller, t *Ticket) (*Call, *Refusal) {
	if refusal := g.permitTicket(caller, t); refusal != nil {
		return nil, refusal
	}
	if !t.Paid() {
		return &Call{scopes: t.scopes}, nil
	}
	c := g.callOf(ctx, caller, t)
	c.began = time.Unix(t.began, 0)
	c.deadline = c.began.Add(g.policy.MaxCall) // resuming does not extend this deadline
	c.renew()
	c.startRenewal()
	return c, nil
}

// callOf returns the call of a paid ticket.
func (g *Gate) callOf(ctx context.Context, caller *Caller, t *Ticket) *Call {
	order := t.order
	order.Account, order.Provider, order.Server = caller.Account, g.policy.Provider, g.policy.Server
	c := &Call{
		gate: g, scopes: t.scopes, id: t.Charge, entry: t.entry, on: t.on, when: g.policy.Prices.Condition(t.entry), order: order, resumed: true, parent: trace.Keep(ctx),
		terms: ledger.Terms{Key: ledger.CapsOf(caller.Limits.Spending()), Server: g.policy.Caps, FreeCalls: g.policy.FreeCalls, Idempotency: t.idempotency, Proof: caller.proof()},
	}
	c.move(eventReserved)
	return c
}

// ticketWriter encodes tickets for event ids and bindings. Each text is preceded by
// its length.
type ticketWriter struct{ b []byte }

func (w *ticketWriter) text(s string) {
	w.b = append(binary.AppendUvarint(w.b, uint64(len(s))), s...)
}

func (w *ticketWriter) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

// scopes writes a list of scopes. The usual list takes one byte.
func (w *ticketWriter) scopes(list []string) {
	if slices.Equal(list, usual) {
		w.number(1)
		return
	}
	if len(list) == 0 {
		w.number(0)
		return
	}
	w.number(uint64(len(list)) + 1)
	for _, s := range list {
		w.text(s)
	}
}

func (w *ticketWriter) call(t *Ticket) {
	o := &t.order
	w.number(uint64(t.began))
	w.text(o.Key)
	w.text(o.Lineage)
	w.text(o.Tool)
	w.number(uint64(o.Amount))
	w.number(uint64(o.Fee))
	w.text(o.FeeTo)
	test := uint64(0)
	if o.Test {
		test = 1
	}
	w.number(test)
	w.number(uint64(t.on))
	w.text(t.entry)
	w.text(t.idempotency.Key)
	if t.idempotency.Key != "" {
		w.b = append(w.b, t.idempotency.Fingerprint[:]...)
	}
}

// ticketReader reads the encoding of ticketWriter.
type ticketReader struct {
	b   []byte
	bad bool
}

func (r *ticketReader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *ticketReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *ticketReader) text() string { return string(r.bytes(r.number())) }

func (r *ticketReader) scopes() (list []string) {
	switch n := r.number(); {
	case n == 1:
		return usual
	case n > uint64(len(r.b)): // too many scopes for the remaining bytes, because each scope takes at least one byte
		r.bad = true
	default:
		for ; n > 1; n-- {
			list = append(list, r.text())
		}
	}
	return list
}

func (r *ticketReader) call(t *Ticket) {
	o := &t.order
	t.began = int64(r.number())
	o.Key, o.Lineage, o.Tool = r.text(), r.text(), r.text()
	o.Amount, o.Fee = ledger.Amount(r.number()), ledger.Amount(r.number())
	o.FeeTo = r.text()
	o.Test = r.number() == 1
	t.on = pricing.ChargeOn(r.number())
	t.entry = r.text()
	if t.idempotency.Key = r.text(); t.idempotency.Key != "" {
		copy(t.idempotency.Fingerprint[:], r.bytes(uint64(len(t.idempotency.Fingerprint))))
	}
}
