package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// polling is an MCP server of the session-based protocol versions. The name of a tool
// decides how its call is answered. The server keeps the events of broken streams
// and records the requests that it received (MCP 2025-11-25, streamable HTTP,
// resumability).
//
//	polled      closes the stream before the answer
//	held        leaves the stream open, and answers on the next stream
//	failing     works like polled, but the answer is a JSON-RPC error
//	free        works like polled, but the call is free
//	direct      answers immediately
//	hidden      has no price, so the gateway hides it from clients
type polling struct {
	url string

	mu     sync.Mutex
	runs   map[string]int // number of runs, by tool
	seen   []string       // session ids and event ids in the received requests
	ids    map[string]json.RawMessage
	broken chan string // receives the tool's name when the client leaves the stream

	session string // id of the session that the next client begins
	refused int    // the server refuses this number of further requests to resume a stream
	hanging bool   // true if resumed streams stay open without an event
}

func (p *polling) setSession(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session = id
}

func (p *polling) refuse(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = n
}

func (p *polling) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hanging = true
}

func startPolling(t *testing.T) *polling {
	p := &polling{runs: map[string]int{}, ids: map[string]json.RawMessage{}, broken: make(chan string, 8), session: "up.1"}
	s := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // runs before Close, which waits for open connections
	p.url = s.URL
	return p
}

const tools = `{"tools":[{"name":"hidden","inputSchema":{"type":"object"}},{"name":"polled","inputSchema":{"type":"object"}},{"name":"free","inputSchema":{"type":"object"}}]}`

func (p *polling) serve(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	p.mu.Lock()
	p.seen = append(p.seen, r.Header.Get("Mcp-Session-Id"), r.Header.Get("Last-Event-ID"))
	p.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		p.goOn(w, r)
		return
	case http.MethodDelete:
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tool := m.Params.Name
	if m.Method != "tools/call" {
		tool = m.Method
	}
	p.mu.Lock()
	p.runs[tool]++
	p.ids[tool] = m.ID
	p.mu.Unlock()
	switch tool {
	case "initialize":
		p.mu.Lock()
		w.Header().Set("Mcp-Session-Id", p.session)
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"p","version":"1"}}}`, m.ID)
	case "direct":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, p.answer(tool))
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %s/0\nretry: 10\ndata: \n\n", tool)
		_ = http.NewResponseController(w).Flush()
		if tool == "held" {
			<-r.Context().Done()
			p.broken <- tool
		}
	}
}

// goOn answers on the stream that a client opens by GET.
func (p *polling) goOn(w http.ResponseWriter, r *http.Request) {
	event := r.Header.Get("Last-Event-ID")
	p.mu.Lock()
	refused, hanging := p.refused > 0, p.hanging
	p.refused--
	p.mu.Unlock()
	if refused {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Conflict"}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if hanging {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	tool := strings.TrimSuffix(event, "/0")
	fmt.Fprintf(w, ": %s\n\nid: %s/1\ndata: %s\n\n", "hello", tool, p.answer(tool))
}

func (p *polling) answer(tool string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.ids[tool]
	switch {
	case tool == "failing":
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no luck"}}`, id)
	case tool == "tools/list":
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, tools)
	case id == nil:
		return `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"the secret of %s"}]}}`, id, tool)
}

func (p *polling) ran(tool string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[tool]
}

// visitor is a client of the session-based protocol versions that sends its HTTP
// requests by hand.
type visitor struct {
	t       *testing.T
	g       *harness.Gateway
	key     string // the id of the agent key
	secret  string
	session string
	id      int
}

func (p *polling) gateway(t *testing.T) *harness.Gateway {
	return binaries.StartGateway(t, harness.Site(p.url, "server weather", "provider acme",
		"price polled 0.01", "price held 0.01", "price failing 0.01", "price direct 0.01", "free free"))
}

func visit(t *testing.T, g *harness.Gateway, secret string) *visitor {
	t.Helper()
	v := &visitor{t: t, g: g, secret: secret}
	resp := v.send(http.MethodPost, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"v","version":"1"}}}`, "")
	resp.Body.Close()
	if v.session = resp.Header.Get("Mcp-Session-Id"); v.session == "" || v.session == "up.1" {
		t.Fatalf("the client was given the session id %q", v.session)
	}
	return v
}

func (v *visitor) send(method, body, event string) *http.Response {
	v.t.Helper()
	return v.sendWith(v.t.Context(), method, body, event)
}

func (v *visitor) sendWith(ctx context.Context, method, body, event string) *http.Response {
	v.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, v.g.Endpoint(), strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Authorization", "Bearer "+v.secret)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range map[string]string{"Mcp-Session-Id": v.session, "Last-Event-ID": event} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if v.session != "" {
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// call sends a tools/call. It returns the id of the last event before the stream
// ended, and the stream's text.
func (v *visitor) call(tool string) (event, stream string) {
	v.t.Helper()
	v.id++
	return v.read(v.send(http.MethodPost, harness.ToolCall(v.id, tool, `{}`), ""))
}

func (v *visitor) read(resp *http.Response) (event, stream string) {
	v.t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return lastID(string(text)), string(text)
}

func lastID(stream string) (event string) {
	for line := range strings.Lines(stream) {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			event = strings.TrimSpace(id)
		}
	}
	return event
}

// comeBack resumes a stream after this event id, and returns the answer in the
// rest of the stream.
func (v *visitor) comeBack(event string) *harness.Answer {
	v.t.Helper()
	resp := v.send(http.MethodGet, "", event)
	_, stream := v.read(resp)
	answer := &harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: stream}
	data := stream
	for line := range strings.Lines(stream) {
		if rest, ok := strings.CutPrefix(line, "data: "); ok {
			data = rest
		}
	}
	if err := json.Unmarshal([]byte(data), &answer.Message); err != nil {
		v.t.Fatalf("status %d: no message in %q: %v", resp.StatusCode, stream, err)
	}
	return answer
}

func (v *visitor) owns(account string, balance, reserved ledger.Amount) {
	v.t.Helper()
	if a := v.g.Account(v.t, account); a.Balance != balance || a.Reserved != reserved {
		v.t.Errorf("balance %s, reserved %s; want %s, %s", a.Balance, a.Reserved, balance, reserved)
	}
}

// alice starts a polling server behind a gateway, and begins a session for an
// agent with credits.
func alice(t *testing.T) (*polling, *harness.Gateway, *visitor) {
	t.Helper()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	v.key = key.ID
	return p, g, v
}
