package bridge

import (
	"bufio"
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

	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

const testPatience = time.Minute

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
	notes *stdiotest.Log
	ended chan error
	close func() // closes the reading end
}

func start(t *testing.T, address string, change func(*Options)) *client {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{out: make(chan string, 1000), notes: new(stdiotest.Log), ended: make(chan error, 1)}
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
