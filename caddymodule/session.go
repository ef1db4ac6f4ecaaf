package caddymodule

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// The headers of sessions and of streams that go on (MCP 2025-11-25, streamable
// HTTP).
const (
	sessionHeader = "Mcp-Session-Id"
	eventHeader   = "Last-Event-ID"
)

// openSession gives the server the session id and the event id that it made.
// The client has them sealed for its account: to the server, all callers look
// alike.
func (x *exchange) openSession() *gate.Refusal {
	header := x.r.Header
	if x.era == mcp.EraStateless { // there are no sessions, whatever the client says
		header.Del(sessionHeader)
		header.Del(eventHeader)
		return nil
	}
	if sealed := header.Values(sessionHeader); len(sealed) > 0 {
		id, ok := x.h.gate.OpenSession(x.key, sealed[0])
		if !ok || len(sealed) > 1 {
			return &gate.Refusal{Code: gate.SessionUnknown}
		}
		header.Set(sessionHeader, id)
		x.session = id
	}
	sealed := header.Values(eventHeader)
	if x.r.Method != http.MethodGet || len(sealed) == 0 {
		header.Del(eventHeader)
		return nil
	}
	event, ticket, ok := x.h.gate.OpenEvent(x.key, x.session, sealed[0])
	if !ok || len(sealed) > 1 {
		return &gate.Refusal{Code: gate.MessageInvalid, Reason: "the Last-Event-ID is none that this key was given in this session"}
	}
	header.Set(eventHeader, event)
	x.resumed = ticket
	return nil
}

// sealer returns what seals the ids of a stream's events, nil where there are
// none.
func (x *exchange) sealer(t *gate.Ticket) func([]byte) []byte {
	if x.era != mcp.EraSession {
		return nil
	}
	return func(id []byte) []byte {
		x.ticketOut.Store(true)
		if x.call != nil {
			x.call.TicketOut()
		}
		return x.h.gate.SealEvent(x.key, x.session, t, id)
	}
}

// sealSession seals the session id in the head of a response.
func (x *exchange) sealSession(h http.Header) {
	id := h.Get(sessionHeader)
	h.Del(sessionHeader)
	if id != "" && x.key != nil && x.era == mcp.EraSession {
		x.session = id // also of the stream that begins it
		h.Set(sessionHeader, x.h.gate.SealSession(x.key, id))
	}
}

// resume goes on with the stream of a POST that broke off. What was not charged
// yet is charged, under the call's first charge id, before its answer passes.
func (x *exchange) resume(t *gate.Ticket) error {
	if mcp.OfOneTask(t.Method) {
		return x.resumeTask(t)
	}
	x.message = mcp.Message{Kind: mcp.KindRequest, ID: t.Request, Method: t.Method}
	call, refusal := x.h.gate.Resume(x.key, t)
	if refusal != nil {
		x.refuse(refusal)
		return nil
	}
	x.call = call
	defer call.Suspend() // unless it is settled by then
	x.message.Name = call.Tool()
	o := x.options(t)
	o.Resumed = true
	if t.Paid() {
		x.identifyCharge(call.Tool(), call.ID())
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), duration(x.h.MaxCall))
	defer cancel()
	complete := x.settleStream(ctx, call, t, o)
	if call.Captured() {
		x.countCharged(call)
	} else {
		x.count("allowed")
	}
	return finished(complete)
}

// maxList bounds a list in bytes: it is held whole, to be rewritten.
const maxList = 8 << 20

// options are how the answer to the ticket's request is treated. Of a list, what
// the key may not use is taken out, and prices are put in.
func (x *exchange) options(t *gate.Ticket) intercept.Options {
	o := intercept.Options{ID: t.Request, Seal: x.sealer(t)}
	if mcp.MayAsk(t.Method) {
		o.Bind = x.binder(t)
	}
	if list, ok := mcp.ListOf(t.Method); ok {
		o.Rewrite, o.Hold = x.rewriter(list), maxList
	}
	return o
}

// forwardFree sends a request on that costs nothing. No other answer than its own
// passes: that could be one to be paid.
func (x *exchange) forwardFree(call *gate.Call) error {
	ticket := call.Ticket(&x.message)
	o := x.options(ticket)
	complete := false
	if x.message.Method == "subscriptions/listen" { // which lives as long as its client likes
		complete = x.settleStream(x.r.Context(), call, ticket, o)
	} else {
		complete = x.settle(call, o)
	}
	return finished(complete)
}

func (x *exchange) rewriter(list mcp.List) func([]byte, bool) ([]byte, error) {
	o := x.h.gate.List(x.key, list)
	o.ID, o.Era, o.LeftOut = x.message.ID, x.era, x.leftOutOf(list)
	return func(answer []byte, event bool) ([]byte, error) {
		if event {
			return mcp.RewriteListEvent(answer, o)
		}
		return mcp.RewriteList(answer, o)
	}
}
