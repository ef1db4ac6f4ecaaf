package bridge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// begun returns the number of sessions that were begun.
func begun(s *server) int {
	return len(s.find(func(r *request) bool { return r.Method == "initialize" }))
}

// TestStreamEndsWithItsSession checks that a session of which the stream learns the end
// is renewed as a whole, with the client's settings, though no call needs it. Otherwise
// the client would miss the changes that it has subscribed to.
func TestStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	var s *server
	s = newServer(t, func(w http.ResponseWriter, r *request) {
		current := fmt.Sprint("session", begun(s))
		switch {
		case r.HTTPMethod == http.MethodGet && r.Header.Get("Last-Event-ID") != "":
			w.WriteHeader(http.StatusNotFound)
		case r.HTTPMethod == http.MethodGet && current == "session1":
			s.await(t, 1, func(r *request) bool { return r.Method == "resources/subscribe" })
			event(w, "id: e1\nretry: 1\ndata:")
		case handshake(w, r, current):
		default:
			answer(w, r, `{}`)
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///a"}}`)
	c.next(t)
	again := s.await(t, 2, func(r *request) bool { return r.Method == "resources/subscribe" })[1]
	if again.Header.Get("Mcp-Session-Id") != "session2" || begun(s) != 2 {
		t.Errorf("subscribed in %q; %d sessions were begun", again.Header.Get("Mcp-Session-Id"), begun(s))
	}
	if strings.Contains(c.notes.String(), "could not be repeated") {
		t.Errorf("notes: %s", c.notes)
	}
}

// TestRenewalOutlivesItsCall checks that a client that cancels a call does not leave a
// session that was begun by half, and that a notification of the handshake that meets a
// 503 is sent again.
func TestRenewalOutlivesItsCall(t *testing.T) {
	t.Parallel()
	var s *server
	s = newServer(t, func(w http.ResponseWriter, r *request) {
		current := fmt.Sprint("session", begun(s))
		ready := len(s.find(func(r *request) bool { return r.Method == "notifications/initialized" }))
		switch {
		case r.Method == "initialize" && current == "session2":
			// The client leaves its call while the new session begins.
			s.await(t, 1, func(r *request) bool { return r.Method == "notifications/cancelled" })
			handshake(w, r, current)
		case r.Method == "notifications/initialized" && ready == 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case handshake(w, r, current):
		case r.Method == "notifications/cancelled":
			w.WriteHeader(http.StatusAccepted)
		case current == "session1" || ready < 3:
			w.WriteHeader(http.StatusNotFound)
		default:
			answer(w, r, paid("0.01"))
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	c.send(t, toolCall(1, "x"))
	s.await(t, 2, func(r *request) bool { return r.Method == "initialize" })
	c.send(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	s.await(t, 3, func(r *request) bool { return r.Method == "notifications/initialized" })
	c.send(t, toolCall(2, "x"))
	if m := c.next(t); string(m.ID) != "2" || m.Result == nil {
		t.Errorf("response: %s", m.Line)
	}
	if begun(s) != 2 {
		t.Errorf("%d sessions were begun", begun(s))
	}
}
