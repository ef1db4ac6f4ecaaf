package bridge

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSession checks that a session of the older versions passes as the specification
// says: messages byte for byte, the session's headers after initialize, the stream of
// the server, a request of the server and its response, and DELETE at the end.
func TestSession(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case r.HTTPMethod == http.MethodGet:
			event(w, `data: {"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
		case handshake(w, r, "one"):
		case r.Method == "":
			w.WriteHeader(http.StatusAccepted)
		default:
			answer(w, r, `{"text":"é <&>","n":1.50}`)
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	if m := c.next(t); m.Line != `{"jsonrpc":"2.0","id":1,"method":"roots/list"}` {
		t.Errorf("from the server's stream: %s", m.Line)
	}
	c.send(t, `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`)
	s.await(t, 1, func(r *request) bool { return r.Body == `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}` })
	sent := `{"jsonrpc":"2.0", "id":7, "method":"tools/call","params":{"name":"x","arguments":{"a":1.0}}}`
	c.send(t, sent)
	if m := c.next(t); m.Line != `{"jsonrpc":"2.0","id":7,"result":{"text":"é <&>","n":1.50}}` {
		t.Errorf("response: %s", m.Line)
	}
	got := s.calls()[0]
	if got.Body != sent {
		t.Errorf("the server got %s", got.Body)
	}
	for name, want := range map[string]string{"Mcp-Session-Id": "one", "Mcp-Protocol-Version": "2025-11-25", "Authorization": "Bearer secret-of-the-test", "Mcp-Method": ""} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
	c.finish(t)
	if ends := s.find(func(r *request) bool { return r.HTTPMethod == http.MethodDelete }); len(ends) != 1 || ends[0].Header.Get("Mcp-Session-Id") != "one" {
		t.Errorf("%d sessions were ended", len(ends))
	}
}

// TestLostAnswers checks promise 2 of docs/promises.md from the side of a caller: after
// its connection breaks, a call is sent again with its idempotency key, until the gateway has
// the result of the first attempt, and the client gets one response. Another call has
// another key.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(w http.ResponseWriter, r *request){
		"before the response": func(w http.ResponseWriter, _ *request) { breakOff(w) },
		"within the response": func(w http.ResponseWriter, r *request) {
			w.Header().Set("Content-Length", "1000")
			answer(w, r, `{}`)
		},
		"within a stream": func(w http.ResponseWriter, _ *request) {
			event(w, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		},
		"at a proxy": func(w http.ResponseWriter, _ *request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *server
			s = newServer(t, func(w http.ResponseWriter, r *request) {
				if handshake(w, r, "one") {
					return
				}
				switch len(s.calls()) {
				case 1:
					broken(w, r)
				case 2:
					answer(w, r, refusal("IDEMPOTENCY_IN_FLIGHT", `,"retry_after_ms":1`))
				default:
					answer(w, r, paid("0.01"))
				}
			})
			c := start(t, s.URL, nil)
			c.hello(t)
			c.send(t, toolCall(7, "x"))
			m := c.next(t)
			if name == "within a stream" {
				m = c.next(t) // the notification came first
			}
			if string(m.ID) != "7" || !strings.Contains(m.Line, "chg_1") {
				t.Errorf("response: %s", m.Line)
			}
			c.send(t, toolCall(8, "x"))
			c.next(t)
			calls := s.calls()
			key := calls[0].Header.Get("Idempotency-Key")
			for i, r := range calls {
				if got := r.Header.Get("Idempotency-Key"); got == "" || (got == key) != (i < 3) {
					t.Errorf("request %d has the key %q; the first has %q", i, got, key)
				}
			}
			if len(calls) != 4 {
				t.Errorf("there were %d requests", len(calls))
			}
		})
	}
}

// TestFreeToolsRunOnce checks promise 4 of docs/promises.md: a call of a tool that is
// listed as free is not repeated once the server may have it, because the gateway keeps
// no results of free calls. The client learns that there was no response.
func TestFreeToolsRunOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case handshake(w, r, "one"):
		case r.Method == "tools/list":
			answer(w, r, `{"tools":[{"name":"free","inputSchema":{}},{"name":"safe","inputSchema":{},"annotations":{"readOnlyHint":true}}]}`)
		default:
			breakOff(w)
		}
	})
	c := start(t, s.URL, func(o *Options) { o.patience.doubt = 200 * time.Millisecond })
	c.hello(t)
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	c.next(t)
	c.send(t, toolCall(2, "free"))
	if m := c.next(t); m.Error == nil || !strings.Contains(m.Error.Message, "no response came") {
		t.Errorf("response: %s", m.Line)
	}
	if n := len(s.calls()); n != 1 {
		t.Errorf("the free tool was called %d times", n)
	}
	c.send(t, toolCall(3, "safe"))
	c.next(t)
	if n := len(s.calls()); n < 3 {
		t.Errorf("a tool that may run twice was called %d times", n-1)
	}
}

// TestSessionIsRenewed checks that the client does not notice the end of a session of
// the server: the bridge begins a new one with the client's own initialize, repeats its
// settings, and sends the call again with its key.
func TestSessionIsRenewed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w http.ResponseWriter){
		"404": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"400": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *server
			s = newServer(t, func(w http.ResponseWriter, r *request) {
				begun := s.find(func(r *request) bool { return r.Method == "initialize" })
				current := fmt.Sprint("session", len(begun))
				switch {
				case handshake(w, r, current):
				case r.Method == "tools/call" && len(begun) == 1:
					end(w)
				case r.Header.Get("Mcp-Session-Id") != current:
					end(w)
				default:
					answer(w, r, paid("0.01"))
				}
			})
			c := start(t, s.URL, nil)
			c.hello(t)
			c.send(t, `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`)
			c.next(t)
			for id := range 5 {
				c.send(t, toolCall(10+id, "x"))
			}
			for range 5 {
				if m := c.next(t); !strings.Contains(m.Line, "chg_1") {
					t.Errorf("response: %s", m.Line)
				}
			}
			if n := len(s.find(func(r *request) bool { return r.Method == "initialize" })); n != 2 {
				t.Errorf("%d sessions were begun", n)
			}
			if n := len(s.find(func(r *request) bool { return r.Method == "logging/setLevel" })); n != 2 {
				t.Errorf("the level was set %d times", n)
			}
		})
	}
}

// TestResumption checks that a stream that ends before its response is resumed from its
// last event, after the delay that the server asks for, and that the call is not sent
// again.
func TestResumption(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case r.HTTPMethod == http.MethodGet && r.Header.Get("Last-Event-ID") == "e1":
			event(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}")
		case r.HTTPMethod == http.MethodGet && r.Header.Get("Last-Event-ID") == "e2":
			event(w, "id: e3\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}")
		case handshake(w, r, "one"):
		default:
			event(w, "id: e1\nretry: 5\ndata:")
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	c.send(t, toolCall(7, "x"))
	if m := c.next(t); m.Method != "notifications/progress" {
		t.Errorf("first %s", m.Line)
	}
	if m := c.next(t); string(m.ID) != "7" || m.Result == nil {
		t.Errorf("then %s", m.Line)
	}
	if n := len(s.calls()); n != 1 {
		t.Errorf("the tool was called %d times", n)
	}
}

// TestSessionsWithoutEnd checks that a server that ends each session at once gets no
// endless row of new sessions, and that the call ends with an error.
func TestSessionsWithoutEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if !handshake(w, r, "one") {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Error == nil || !strings.Contains(m.Error.Message, "ends each new session") || !strings.Contains(m.Error.Message, "Nothing was charged") {
		t.Errorf("response: %s", m.Line)
	}
	if n := len(s.find(func(r *request) bool { return r.Method == "initialize" })); n > 6 {
		t.Errorf("%d sessions were begun", n)
	}
}

// TestStreamIsOpenFirst checks that no request overtakes the opening of the session's
// stream. The conformance suite's sse-retry answers a call on the first stream that is
// opened after it.
func TestStreamIsOpenFirst(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case r.HTTPMethod == http.MethodGet:
			open.Store(true)
			event(w, ":")
		case handshake(w, r, "one"):
		default:
			answer(w, r, fmt.Sprintf(`{"open":%t}`, open.Load()))
		}
	})
	for range 20 {
		open.Store(false)
		c := start(t, s.URL, nil)
		c.hello(t)
		c.send(t, toolCall(1, "x"))
		if m := c.next(t); !strings.Contains(m.Line, `{"open":true}`) {
			t.Fatalf("response: %s", m.Line)
		}
		c.finish(t)
	}
}
