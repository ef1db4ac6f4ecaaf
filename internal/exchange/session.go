package exchange

import (
	"net/http"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// The headers of sessions and resumed streams (MCP 2025-11-25, streamable HTTP).
const (
	sessionHeader = "Mcp-Session-Id"
	eventHeader   = "Last-Event-ID"
)

// openSession restores the session id and the event id as the server knows them.
// The client holds both ids sealed for its account, because the server cannot
// distinguish callers.
func (x *Exchange) openSession() *gate.Refusal {
	header := x.r.Header
	if x.era == mcp.EraStateless { // the stateless era has no sessions, even if the client sends a session id
		header.Del(sessionHeader)
		header.Del(eventHeader)
		return nil
	}
	if sealed := header.Values(sessionHeader); len(sealed) > 0 {
		id, ok := x.site.Gate.OpenSession(&x.caller, sealed[0])
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
	event, ticket, ok := x.site.Gate.OpenEvent(&x.caller, x.session, sealed[0])
	if !ok || len(sealed) > 1 {
		return &gate.Refusal{Code: gate.MessageInvalid, Reason: "the Last-Event-ID was not given to this key in this session"}
	}
	header.Set(eventHeader, event)
	x.resumed = ticket
	return nil
}

// sealer returns the function that seals a stream's event ids, or nil in the stateless
// era, which has no event ids.
func (x *Exchange) sealer(t *gate.Ticket) func([]byte) []byte {
	if x.era != mcp.EraSession {
		return nil
	}
	return func(id []byte) []byte {
		x.resumable.Store(true)
		if x.call != nil {
			x.call.TicketOut()
		}
		return x.site.Gate.SealEvent(&x.caller, x.session, t, id)
	}
}

// sealSession seals the session id in a response header.
func (x *Exchange) sealSession(h http.Header) {
	id := h.Get(sessionHeader)
	h.Del(sessionHeader)
	if id != "" && x.caller.Known() && x.era == mcp.EraSession {
		x.session = id // a stream that begins the session needs the id to seal its events
		h.Set(sessionHeader, x.site.Gate.SealSession(&x.caller, id))
	}
}

// maxList limits the bytes of a list, because a list is held whole while it is
// rewritten.
const maxList = 8 << 20

// rewriter returns the function that removes hidden items from a list and adds
// prices.
func (x *Exchange) rewriter(list mcp.List) func([]byte, bool) ([]byte, error) {
	o := x.site.Gate.List(&x.caller, list)
	o.ID, o.Era, o.LeftOut = x.message.ID, x.era, x.leftOutOf(list)
	return func(answer []byte, event bool) ([]byte, error) {
		if event {
			return mcp.RewriteListEvent(answer, o)
		}
		return mcp.RewriteList(answer, o)
	}
}
