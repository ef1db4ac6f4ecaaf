package bridge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const testPatience = 2 * time.Minute // the race detector is slow on messages of 64 MiB

// request is a request that the test's server received.
type request struct {
	HTTPMethod string
	Header     http.Header
	Body       string
	Method     string          `json:"method"`
	ID         json.RawMessage `json:"id"`
	Params     struct {
		Name string                     `json:"name"`
		Meta map[string]json.RawMessage `json:"_meta"`
	} `json:"params"`
}

// server is an MCP server that a test scripts. It answers the handshake by itself.
type server struct {
	URL    string
	script func(w http.ResponseWriter, r *request)

	mu       sync.Mutex
	requests []*request
	changed  chan struct{}
}

func newServer(t *testing.T, script func(w http.ResponseWriter, r *request)) *server {
	t.Helper()
	s := &server{script: script, changed: make(chan struct{}, 1)}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Cleanup(h.CloseClientConnections)
	s.URL = h.URL + "/mcp"
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	got := &request{}
	_ = json.Unmarshal(body, got)
	got.HTTPMethod, got.Header, got.Body = r.Method, r.Header, string(body)
	s.mu.Lock()
	s.requests = append(s.requests, got)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	s.script(w, got)
}

// find returns the requests so far that match.
func (s *server) find(match func(*request) bool) (found []*request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}

func (s *server) calls() []*request {
	return s.find(func(r *request) bool { return r.Method == "tools/call" })
}

// await waits until n requests match.
func (s *server) await(t *testing.T, n int, match func(*request) bool) []*request {
	t.Helper()
	deadline := time.After(testPatience)
	for {
		if found := s.find(match); len(found) >= n {
			return found
		}
		select {
		case <-s.changed:
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("there were %d of %d requests", len(s.find(match)), n)
		}
	}
}

// handshake answers the requests of a handshake with the session's id, and reports
// whether the request was one of them. Its GET stream does not exist.
func handshake(w http.ResponseWriter, r *request, session string) bool {
	switch {
	case r.Method == "initialize":
		w.Header().Set("Mcp-Session-Id", session)
		answer(w, r, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`)
	case r.HTTPMethod == http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.HTTPMethod == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "notifications/initialized":
		w.WriteHeader(http.StatusAccepted)
	default:
		return false
	}
	return true
}

func answer(w http.ResponseWriter, r *request, result string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, r.ID, result)
}

// paid is the result of a call that was charged.
func paid(amount string) string {
	return fmt.Sprintf(`{"content":[{"type":"text","text":"ok"}],"_meta":{"dev.farebox/charge":{"id":"chg_1","amount":%q,"currency":"USD","environment":"live","balance":"9.00"}}}`, amount)
}

// refusal is the result of a call that the gateway refused.
func refusal(code string, more string) string {
	return fmt.Sprintf(`{"content":[{"type":"text","text":"refused"}],"isError":true,"_meta":{"dev.farebox/error":{"code":%q%s}}}`, code, more)
}

// breakOff ends the connection without a response.
func breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func event(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "%s\n\n", text)
	_ = http.NewResponseController(w).Flush()
}

// client is the side of a bridge on which its client writes and reads.
type client struct {
	in    *io.PipeWriter
	out   chan string
	notes *syncBuffer
	ended chan error
	close func() // closes the reading end
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, address string, change func(*Options)) *client {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{out: make(chan string, 1000), notes: new(syncBuffer), ended: make(chan error, 1)}
	quick := patience{
		finish: time.Second, unsent: 2 * time.Second, doubt: 5 * time.Second, running: 5 * time.Second,
		refused: 2 * time.Second, first: time.Millisecond, most: 20 * time.Millisecond, cancel: 50 * time.Millisecond,
	}
	o := Options{URL: u, Token: "secret-of-the-test", Notes: c.notes, patience: &quick}
	if change != nil {
		change(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var in *io.PipeReader
	in, c.in = io.Pipe()
	outReader, outWriter := io.Pipe()
	c.close = func() { _ = outReader.Close() }
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c.ended <- b.Run(ctx, in, outWriter)
		_ = outWriter.Close()
	}()
	go func() {
		r := bufio.NewReader(outReader)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				close(c.out)
				return
			}
			c.out <- line
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
		_ = in.Close()
		if strings.Contains(c.notes.String(), "secret-of-the-test") {
			t.Error("the notes contain the token")
		}
	})
	return c
}

func (c *client) send(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(c.in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// message is a message that the client received.
type message struct {
	Line   string
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (c *client) next(t *testing.T) message {
	t.Helper()
	select {
	case line, ok := <-c.out:
		if !ok {
			t.Fatalf("the bridge has ended; notes:\n%s", c.notes)
		}
		m := message{Line: strings.TrimSuffix(line, "\n")}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		return m
	case <-time.After(testPatience):
		t.Fatalf("no message; notes:\n%s", c.notes)
		return message{}
	}
}

// hello performs the handshake of the older versions.
func (c *client) hello(t *testing.T) {
	t.Helper()
	c.send(t, `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	if m := c.next(t); string(m.ID) != `"hello"` || m.Result == nil {
		t.Fatalf("initialize: %s", m.Line)
	}
	c.send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func toolCall(id int, tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"a":"<b>"}}}`, id, tool)
}

// modern is a request of 2026-07-28.
func modern(id int, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method, params)
}

func (c *client) finish(t *testing.T) {
	t.Helper()
	_ = c.in.Close()
	select {
	case err := <-c.ended:
		if err != nil {
			t.Errorf("the bridge ended with %v", err)
		}
	case <-time.After(testPatience):
		t.Fatal("the bridge does not end")
	}
}

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
