package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// kind is the kind of an exchange between client and server.
type kind uint8

const (
	relay        kind = iota // a notification, a response or the end of a session; no message comes back
	free                     // a request without a price
	subscription             // a request without a price, with a response that stays open
	paid                     // a request with a price
	task                     // a request about a task; a result in the response may be due for payment
	listener                 // the stream that a client opens by GET
	kinds
)

// ends is a set of causes that end a response before the server has ended it.
type ends uint8

const (
	onLeave ends = 1 << iota // the client leaves
	onLimit                  // Site.MaxCall has passed
	onKey                    // the key is no longer valid or lacks a scope, or the server's rules have changed
)

// A response is either fresh or resumed. A resumed response is the rest of a response
// that broke off.
const (
	fresh = iota
	resumed
	origins
)

const (
	inSession   = mcp.EraSession
	inStateless = mcp.EraStateless
	eras        = mcp.EraStateless + 1
)

// ways lists the combinations of kind, origin (fresh or resumed) and era that exist,
// and for each combination the causes that end the response. Listeners and resumed
// streams exist only in sessions. A fresh paid response in a session does not end when
// the client leaves. In a session, leaving does not cancel a call (MCP 2025-11-25), and
// the client may come back for the result.
var ways = [kinds][origins][eras]ends{
	relay:        {fresh: {inSession: onLeave, inStateless: onLeave}},
	free:         {fresh: {inSession: onLeave | onLimit, inStateless: onLeave | onLimit}, resumed: {inSession: onLeave | onLimit | onKey}},
	subscription: {fresh: {inStateless: onLeave | onKey}},
	paid:         {fresh: {inSession: onLimit, inStateless: onLeave | onLimit}, resumed: {inSession: onLeave | onLimit | onKey}},
	task:         {fresh: {inSession: onLeave | onLimit, inStateless: onLeave | onLimit}, resumed: {inSession: onLeave | onLimit | onKey}},
	listener:     {fresh: {inSession: onLeave | onKey}, resumed: {inSession: onLeave | onKey}},
}

// call is the call that a plan settles: a gate.Call or a gate.Task.
type call interface {
	intercept.Call
	Paid() bool
	Captured() bool
	Abandoned(cut bool)

	// The methods below describe the call for its record in the call log; see
	// gate.Call.
	Entry() string
	Charged() (ledger.Amount, bool)
	Took() (reserving, capturing time.Duration)
}

// plan describes how an exchange is carried out.
type plan struct {
	kind    kind
	resumed bool
	ends    ends
	ticket  *gate.Ticket // nil for a relay
	call    call         // nil for a relay and a listener
	tool    string
	charge  string // id of the charge, "" without a charge
}

var errNoWay = errors.New("no exchange of this kind exists in this protocol version")

// newPlan returns the plan of an exchange, or a refusal if no such exchange exists.
func newPlan(k kind, isResumed bool, era mcp.Era) (plan, *gate.Refusal) {
	p := plan{kind: k, resumed: isResumed}
	from := fresh
	if isResumed {
		from = resumed
	}
	if k < kinds && era < eras {
		p.ends = ways[k][from][era]
	}
	if p.ends == 0 {
		return plan{}, &gate.Refusal{Code: gate.RequestUnsupported, Cause: errNoWay}
	}
	return p, nil
}

// plan chooses how to carry the request out.
func (x *Exchange) plan() (plan, *gate.Refusal) {
	if x.resumed != nil && !x.resumed.Request.IsZero() {
		return x.resume(x.resumed)
	}
	p, refusal := newPlan(x.kind(), x.resumed != nil, x.era)
	if refusal != nil {
		return p, refusal
	}
	switch p.kind {
	case relay:
	case listener:
		p.ticket = gate.ListenerTicket()
	case task:
		t := x.call.Task()
		p.call, p.ticket, p.tool, p.charge = t, t.Ticket(&x.message), t.Tool(), t.ChargeID()
	case paid:
		p.tool, p.charge = x.call.Tool(), x.call.ID()
		fallthrough
	default:
		p.call, p.ticket = x.call, x.call.Ticket(&x.message)
	}
	return p, nil
}

// kind returns the kind of a request. The request must not resume the response to an
// earlier request.
func (x *Exchange) kind() kind {
	switch {
	case x.r.Method == http.MethodGet:
		return listener
	case x.r.Method == http.MethodDelete:
		return relay
	case x.call.Paid():
		return paid
	case x.call.Task() != nil:
		return task
	case x.message.Kind != mcp.KindRequest:
		return relay
	case x.message.Method == mcp.MethodListen:
		return subscription
	}
	return free
}

// resume returns the plan for the rest of the response to the ticket's request. A
// call that has not been paid yet is captured under its first charge id.
func (x *Exchange) resume(t *gate.Ticket) (plan, *gate.Refusal) {
	k := free
	switch {
	case mcp.OfOneTask(t.Method):
		k = task
	case t.Paid():
		k = paid
	}
	p, refusal := newPlan(k, true, x.era)
	if refusal != nil {
		return p, refusal
	}
	x.message = mcp.Message{Kind: mcp.KindRequest, ID: t.Request, Method: t.Method}
	p.ticket = t
	if k == task {
		about, refusal := x.site.Gate.ResumeTask(x.r.Context(), &x.caller, t)
		if refusal != nil {
			return p, refusal
		}
		p.call, p.tool, p.charge = about, about.Tool(), about.ChargeID()
		return p, nil
	}
	if x.call, refusal = x.site.Gate.Resume(x.r.Context(), &x.caller, t); refusal != nil {
		return p, refusal
	}
	p.call, p.tool, p.charge = x.call, x.call.Tool(), t.Charge
	x.message.Name = p.tool
	return p, nil
}

// carryOut forwards the request according to the plan and sends the response.
func (x *Exchange) carryOut(p *plan) {
	x.settled = p.call
	if p.resumed && p.call != nil || p.kind == task {
		defer p.call.Suspend() // has no effect if the call is settled by then
	}
	if refusal := x.begin(p); refusal != nil {
		x.refuse(refusal)
		return
	}
	ctx, cancel := x.lifetime(p)
	defer cancel()
	if p.ends&onKey != 0 {
		unwatch, refusal := x.watch(ctx, cancel, p.ticket)
		if refusal != nil {
			x.refuse(refusal)
			return
		}
		defer unwatch()
	}
	if p.call == nil {
		x.count("allowed")
		x.pass(ctx, p)
		x.observe(p)
		return
	}
	if !p.resumed && (p.kind == free || p.kind == subscription) {
		x.count("allowed") // counted now, because the response may take long
	}
	complete := x.forward(ctx, cancel, p)
	x.observe(p)
	if !complete {
		panic(http.ErrAbortHandler) // cut the connection: the response cannot be completed
	}
}

// begin publishes the charge, and captures a call that is charged at its start.
func (x *Exchange) begin(p *plan) *gate.Refusal {
	if p.charge != "" {
		x.identifyCharge(p.tool, p.charge)
	}
	if p.kind != paid || p.resumed {
		return nil
	}
	x.annotate(slog.Any("farebox_price", x.call.Price()))
	return x.call.Start(context.WithoutCancel(x.r.Context()))
}

// lifetime returns the context for forwarding the request. The set p.ends says whether
// this context ends when the client leaves, and whether it ends when Site.MaxCall has
// passed.
func (x *Exchange) lifetime(p *plan) (context.Context, context.CancelFunc) {
	ctx := x.r.Context()
	if p.ends&onLeave == 0 {
		ctx = context.WithoutCancel(ctx)
	}
	switch {
	case p.ends&onLimit != 0:
		return context.WithTimeout(ctx, x.site.MaxCall)
	case p.ends&onKey != 0:
		return context.WithCancel(ctx)
	}
	return ctx, func() {}
}

// countOutcome counts a request after its response, unless the request was counted
// before.
func (x *Exchange) countOutcome(p *plan) {
	captured := p.call.Captured()
	switch {
	case p.kind == paid && (captured || !p.resumed):
		x.annotate(slog.Bool("farebox_charged", captured))
		if x.call.Spent() {
			x.site.Shares.Payers.Note(x.caller.Account)
		}
		if captured {
			x.count(charged)
		} else {
			x.count(notCharged)
		}
	case p.kind == task && captured:
		x.annotate(slog.Bool("farebox_charged", true))
		x.count(charged)
	case p.resumed || p.kind == task:
		x.count("allowed")
	}
}
