package server

import (
	"net/http"
	"time"
)

// answering is the response to a POST with a request: JSON if nothing comes before the
// JSON-RPC response, and an event stream otherwise.
type answering struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	c     *call
	after time.Duration // when the event stream begins although nothing has come; 0 for never

	out  *events // nil until the event stream begins
	last int     // the number of the last event that was sent
}

// serve answers the request, or leaves its stream to a client that comes back.
func (a *answering) serve() {
	if a.c.session != nil {
		defer a.c.session.finished(a.s.o.Buffer)
	}
	defer a.c.stream.read()()
	prime, stopPrime := timer(a.after)
	defer stopPrime()
	limit, stopLimit := timer(a.s.o.RequestTimeout)
	defer stopLimit()
	for {
		changed := a.c.stream.changed.Wait()
		events, ended, _ := a.c.stream.after(a.last)
		if ended && a.out == nil && len(events) == 1 {
			writeMessage(a.w, a.status(), events[0].data)
			return
		}
		for _, e := range events {
			a.stream()
			if a.out.send(e) != nil {
				a.leave()
				return
			}
			a.last = e.seq
			if a.c.session == nil {
				a.c.stream.forget(e.seq)
			}
		}
		if ended {
			return
		}
		select {
		case <-changed:
		case <-prime:
			if a.out == nil { // otherwise the client has a later id already
				a.stream()
				a.out.prime()
			}
		case <-limit:
			a.c.peer.cancel(a.c, "it took too long")
			a.c.stream.add(failure(a.c.id, codeTimeout, "the server has not answered within "+a.s.o.RequestTimeout.String(), nil), true, "")
		case <-a.r.Context().Done():
			a.leave()
			return
		}
	}
}

// timer returns a channel that gets a value after d, or never if d is 0.
func timer(d time.Duration) (<-chan time.Time, func() bool) {
	if d <= 0 {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(d)
	return t.C, t.Stop
}

// stream begins the event stream.
func (a *answering) stream() {
	if a.out != nil {
		return
	}
	a.out = newEvents(a.w, a.c.stream, a.c.session != nil)
	if a.c.session != nil {
		a.c.session.keep(a.c.stream, a.s.o.Buffer)
	}
	a.out.begin()
}

// leave handles a client that has left. In a session that is no cancellation
// (MCP 2025-11-25, basic/transports), and the client may come back for the rest of an
// event stream. In 2026-07-28 it is one.
func (a *answering) leave() {
	switch {
	case a.c.session == nil:
		a.c.peer.cancel(a.c, "the client has left")
		a.c.stream.leave()
	case a.out == nil:
		a.c.stream.leave() // the client knows no event to come back to
		if a.c.peer.session == nil {
			a.c.peer.forget(a.c) // its sent id is not used again
		}
	}
}

// status returns the HTTP status of a JSON response. In 2026-07-28 some errors have their
// own (basic/transports/streamable-http, "Errors").
func (a *answering) status() int {
	if a.c.session == nil {
		switch a.c.stream.errorCode() {
		case "-32601":
			return http.StatusNotFound
		case "-32020", "-32021", "-32022":
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}
