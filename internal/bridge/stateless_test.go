package bridge

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestStatelessHeaders checks that requests of 2026-07-28 have the headers that mirror
// the body, also for arguments that a tool wants in a header, and no session.
func TestStatelessHeaders(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if r.Method == "tools/list" {
			answer(w, r, `{"resultType":"complete","tools":[{"name":"täg","inputSchema":{"type":"object","properties":{
				"city":{"type":"string","x-mcp-header":"City"},"in":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},"none":{"type":"string","x-mcp-header":"None"}}}}]}`)
			return
		}
		answer(w, r, `{"resultType":"complete"}`)
	})
	c := start(t, s.URL, nil)
	c.send(t, modern(1, "server/discover", ""))
	c.next(t)
	c.send(t, modern(2, "tools/list", ""))
	c.next(t)
	c.send(t, modern(3, "tools/call", `"name":"täg","arguments":{"city":"Zürich","in":{"n":42},"none":null},`))
	c.next(t)
	h := s.calls()[0].Header
	for name, want := range map[string]string{
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "=?base64?dMOkZw==?=",
		"Mcp-Param-City": "=?base64?WsO8cmljaA==?=", "Mcp-Param-N": "42", "Mcp-Param-None": "", "Mcp-Session-Id": "",
		"Accept": "application/json, text/event-stream",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	c.finish(t)
	if n := len(s.find(func(r *request) bool { return r.HTTPMethod != http.MethodPost })); n != 0 {
		t.Errorf("%d requests were not POST", n)
	}
}

// TestStatelessCancel checks that the client's notifications/cancelled closes the
// response of its request, which is the cancellation over HTTP, and is not sent itself.
// The client gets no response, and other requests go on.
func TestStatelessCancel(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	s := newServer(t, nil)
	s.script = func(w http.ResponseWriter, r *request) {
		if string(r.ID) != "1" {
			answer(w, r, `{}`)
			return
		}
		event(w, `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}`)
		ctl := http.NewResponseController(w)
		for {
			if _, err := w.Write([]byte(":\n\n")); err != nil || ctl.Flush() != nil {
				close(left)
				return
			}
			time.Sleep(time.Millisecond) // paces the server; the test waits for its end
		}
	}
	c := start(t, s.URL, nil)
	c.send(t, modern(1, "tools/call", `"name":"x",`))
	if m := c.next(t); m.Method != "notifications/progress" {
		t.Fatalf("first %s", m.Line)
	}
	c.send(t, modernCancel)
	select {
	case <-left:
	case <-time.After(testPatience):
		t.Fatal("the stream stays open")
	}
	c.send(t, modern(2, "tools/list", ""))
	if m := c.next(t); string(m.ID) != "2" {
		t.Errorf("response: %s", m.Line)
	}
	if n := len(s.find(func(r *request) bool { return r.Method == "notifications/cancelled" })); n != 0 {
		t.Errorf("the notification was sent %d times", n)
	}
}

const modernCancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`

// TestSessionCancel checks that in a session the server gets notifications/cancelled,
// after the request and with the session, and that the request then ends although the
// server sends no response.
func TestSessionCancel(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case handshake(w, r, "one"):
		case r.Method == "notifications/cancelled":
			w.WriteHeader(http.StatusAccepted)
		case r.Params.Name == "x":
			<-release
		default:
			answer(w, r, `{}`)
		}
	})
	defer close(release)
	c := start(t, s.URL, nil)
	c.hello(t)
	c.send(t, toolCall(1, "x"), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	got := s.await(t, 1, func(r *request) bool { return r.Method == "notifications/cancelled" })
	if session := got[0].Header.Get("Mcp-Session-Id"); session != "one" {
		t.Errorf("the notification came with the session %q", session)
	}
	// The two came on different connections: the server may read the later one first.
	s.await(t, 1, func(r *request) bool { return r.Method == "tools/call" })
	// The id is free again when the request has ended.
	for deadline := time.After(testPatience); ; {
		c.send(t, toolCall(1, "y"))
		m := c.next(t)
		if m.Error != nil && strings.Contains(m.Error.Message, "still under way") {
			select {
			case <-deadline:
				t.Fatal("the cancelled request stays under way")
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		break
	}
}

// TestListenIsReopened checks that a stream of subscriptions/listen that breaks is
// opened again, and that the client sees one acknowledgement.
func TestListenIsReopened(t *testing.T) {
	t.Parallel()
	const acknowledged = `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}`
	var s *server
	s = newServer(t, func(w http.ResponseWriter, _ *request) {
		event(w, acknowledged)
		if len(s.find(func(*request) bool { return true })) == 2 {
			event(w, `data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}`)
		}
	})
	c := start(t, s.URL, nil)
	c.send(t, modern(1, "subscriptions/listen", `"notifications":{},`))
	if m := c.next(t); m.Method != "notifications/subscriptions/acknowledged" {
		t.Errorf("first %s", m.Line)
	}
	if m := c.next(t); m.Method != "notifications/tools/list_changed" {
		t.Errorf("then %s", m.Line)
	}
	c.finish(t)
}

// TestWaitsEnd checks that the waits between repetitions grow, and end at their bound.
func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := usualPatience
		w := waits{patience: &p}
		began, n := clock.Now(), 0
		for w.next(t.Context(), 0, p.doubt) {
			n++
		}
		if took := clock.Since(began); took > p.doubt || took < p.doubt-p.most {
			t.Errorf("%d waits took %s, the bound is %s", n, took, p.doubt)
		}
		if n < 30 || n > 100 {
			t.Errorf("%d repetitions in %s", n, p.doubt)
		}
	})
}

// TestNonsense checks that messages that cannot be sent are answered with JSON-RPC
// errors, and that the bridge goes on.
func TestNonsense(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) { answer(w, r, `{}`) })
	c := start(t, s.URL, nil)
	for _, test := range []struct {
		line string
		id   string
		code int
	}{
		{`hello`, "null", -32700},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list"`, "null", -32700},
		{`[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`, "null", -32600},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{}}`, "5", -32602},
	} {
		c.send(t, test.line)
		if m := c.next(t); m.Error == nil || m.Error.Code != test.code || string(m.ID) != test.id {
			t.Errorf("%s: %s", test.line, m.Line)
		}
	}
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	if m := c.next(t); m.Result == nil {
		t.Errorf("afterwards: %s", m.Line)
	}
	if _, err := c.in.Write([]byte(`{"jsonrpc":"2.0","id`)); err != nil {
		t.Fatal(err)
	}
	_ = c.in.Close()
	if m := c.next(t); m.Error == nil || m.Error.Code != -32700 {
		t.Errorf("half a line: %s", m.Line)
	}
	c.finish(t)
}

// TestLongLines checks that a message of nearly 64 MiB passes in both directions, and
// that a longer one is refused without an end of the bridge. It reads no JSON itself,
// which would take most of its time.
func TestLongLines(t *testing.T) {
	bodies := make(chan string, 1)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		text := "short"
		if len(body) > 1000 {
			text = strings.Repeat("y", MaxMessage-1000)
		}
		answer(w, &request{ID: []byte("1")}, `{"text":"`+text+`"}`)
	}))
	defer h.Close()
	c := start(t, h.URL, nil)
	long := strings.Replace(toolCall(1, "x"), "<b>", strings.Repeat("x", MaxMessage-1000), 1)
	c.send(t, long)
	if <-bodies != long {
		t.Error("the server got another message")
	}
	if line := <-c.out; !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":1,"result":{"text":"yyy`) || len(line) < MaxMessage-1000 {
		t.Errorf("a line of %d bytes: %.100s", len(line), line)
	}
	c.send(t, strings.Repeat("x", MaxMessage+1))
	if m := c.next(t); m.Error == nil || !strings.Contains(m.Error.Message, "the most is 67108864") {
		t.Errorf("too long: %s", m.Line)
	}
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	if line := <-c.out; !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":1,"result"`) {
		t.Errorf("afterwards: %.100s", line)
	}
}

// TestRefusedTokens checks that a missing, wrong or expired token is explained to the
// client and to people.
func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{"TOKEN_MISSING": "requires a token", "TOKEN_INVALID": "refused the token", "TOKEN_EXPIRED": "has expired"} {
		s := newServer(t, func(w http.ResponseWriter, r *request) {
			w.WriteHeader(http.StatusUnauthorized)
			if code == "TOKEN_INVALID" { // a page that is longer than the bridge reads
				_, _ = w.Write(bytes.Repeat([]byte("x"), maxErrorBody+1))
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": r.ID, "error": map[string]any{
				"code": 401, "message": "no", "data": map[string]any{"_meta": map[string]any{"dev.farebox/error": map[string]any{"code": code}}}}})
		})
		c := start(t, s.URL, func(o *Options) {
			if code == "TOKEN_MISSING" {
				o.Token = ""
			}
		})
		c.send(t, toolCall(1, "x"))
		m := c.next(t)
		if m.Error == nil || m.Error.Code != 401 || !strings.Contains(m.Error.Message, want) || !strings.Contains(m.Error.Message, "AGENT_TOKEN") || code != "TOKEN_INVALID" && !strings.Contains(m.Line, code) {
			t.Errorf("%s: %s", code, m.Line)
		}
		if !strings.Contains(c.notes.String(), want) {
			t.Errorf("%s: the notes are %q", code, c.notes)
		}
	}
}

// TestLeavingClient checks that a bridge ends when its client no longer reads, and then
// ends the session.
func TestLeavingClient(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if !handshake(w, r, "one") {
			answer(w, r, `{}`)
		}
	})
	c := start(t, s.URL, nil)
	c.hello(t)
	s.await(t, 1, func(r *request) bool { return r.Method == "notifications/initialized" })
	c.close()
	c.send(t, toolCall(1, "x"))
	select {
	case <-c.ended:
	case <-time.After(testPatience):
		t.Fatal("the bridge does not end")
	}
	s.await(t, 1, func(r *request) bool { return r.HTTPMethod == http.MethodDelete })
}

// TestWorkIsFinished checks that a call that is under way when the client closes its end
// still gets its response.
func TestWorkIsFinished(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		<-proceed
		answer(w, r, paid("0.01"))
	})
	c := start(t, s.URL, nil)
	c.send(t, toolCall(1, "x"))
	s.await(t, 1, func(*request) bool { return true })
	_ = c.in.Close()
	close(proceed)
	if m := c.next(t); string(m.ID) != "1" {
		t.Errorf("response: %s", m.Line)
	}
	c.finish(t)
}
