package integration

import (
	"bufio"
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

// polling is an MCP server of the session-based versions that answers calls as
// their tool's name says, keeps the events of broken streams, and notes what it
// was told (MCP 2025-11-25, streamable HTTP, resumability).
//
//	polled      closes the stream before the answer
//	held        leaves the stream open, and answers on the next one
//	failing     as polled, but the answer is a JSON-RPC error
//	free        as polled; free
//	direct      answers at once
//	hidden      is not for sale
type polling struct {
	url string

	mu     sync.Mutex
	runs   map[string]int // by tool
	seen   []string       // session ids and event ids
	ids    map[string]json.RawMessage
	broken chan string // the tool of a stream that its client has left
}

func startPolling(t *testing.T) *polling {
	p := &polling{runs: map[string]int{}, ids: map[string]json.RawMessage{}, broken: make(chan string, 8)}
	s := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // before Close, which waits for them
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
		p.goOn(w, r.Header.Get("Last-Event-ID"))
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
		w.Header().Set("Mcp-Session-Id", "up.1")
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
func (p *polling) goOn(w http.ResponseWriter, event string) {
	w.Header().Set("Content-Type", "text/event-stream")
	tool, _, _ := strings.Cut(strings.TrimSuffix(event, "/0"), "\n")
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

// visitor is a client of the session-based versions that speaks by hand.
type visitor struct {
	t       *testing.T
	g       *harness.Gateway
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

// call sends a tools/call, and returns the id of the last event that came before
// the stream ended, and what the stream brought.
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

// comeBack asks for the rest of a stream, and returns its answer.
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

const cent = ledger.Unit / 100

// TestResumedCallIsChargedOnce: a paid call whose stream the server closes before
// the answer is not charged until its client has come back for it, and once
// however often it does. The server gets the ids that it made.
func TestResumedCallIsChargedOnce(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	event, stream := v.call("polled")
	if event == "" || event == "polled/0" || strings.Contains(stream, "error") {
		t.Fatalf("the stream brought %q", stream)
	}
	v.owns("alice", 100*cent, cent)
	first := v.comeBack(event)
	if first.Result == nil || first.Result.Meta.Charge == nil || first.Result.Meta.Receipt == "" || !strings.Contains(first.Body, "the secret of polled") {
		t.Fatalf("the rest of the stream is %q", first.Body)
	}
	v.owns("alice", 99*cent, 0)
	again := v.comeBack(lastID(stream))
	if again.Result == nil || again.Result.Meta.Charge == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
		t.Errorf("a second time, it is %q", again.Body)
	}
	v.owns("alice", 99*cent, 0)
	if n := len(g.Charges(t, "alice")); n != 1 || p.ran("polled") != 1 {
		t.Errorf("%d charges for %d runs", n, p.ran("polled"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen := strings.Join(p.seen, " "); !strings.Contains(seen, "up.1 polled/0") || strings.Contains(seen, event) || strings.Contains(seen, v.session) {
		t.Errorf("the server was told %q", p.seen)
	}
	g.VerifyLedger(t)
}

// TestBrokenCallIsResumed: a client whose connection breaks in the middle of a
// paid call comes back for the answer. The server's stream is closed with the
// client's, since a server answers on one stream only.
func TestBrokenCallIsResumed(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	resp := v.sendWith(ctx, http.MethodPost, harness.ToolCall(1, "held", `{}`), "")
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || lastID(line) == "" {
		t.Fatalf("the stream begins with %q: %v", line, err)
	}
	leave()
	<-p.broken
	if answer := v.comeBack(lastID(line)); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("the rest of the stream is %q", answer.Body)
	}
	v.owns("alice", 99*cent, 0)
	g.VerifyLedger(t)
}

// TestCrashedCallIsResumed: promises 1 and 4 across a crash. What the gateway has
// forgotten of a call is in the event's id: the answer is charged under the
// first charge id, if the account can pay by then, and withheld if not.
func TestCrashedCallIsResumed(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "0.01")
	v := visit(t, g, key.Secret)
	event, _ := v.call("polled")
	g.Kill()
	g.Start(t)
	v.owns("alice", cent, 0) // a crash releases what was reserved
	if answer := post(t, g, key.Secret, harness.ToolCall(9, "direct", `{}`)); answer.Result == nil || answer.Result.IsError {
		t.Fatalf("the money is not spent on something else: %s", answer.Body)
	}
	poor := v.comeBack(event)
	if poor.Code() != "CHARGE_FAILED" || strings.Contains(poor.Body, "the secret") {
		t.Fatalf("without money, the rest of the stream is %q", poor.Body)
	}
	g.CLI(t, nil, "credit", "alice", "0.05", "--reason", "for the answer")
	first := v.comeBack(event)
	if first.Result == nil || first.Result.Meta.Charge == nil {
		t.Fatalf("the rest of the stream is %q", first.Body)
	}
	if again := v.comeBack(event); again.Result == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
		t.Errorf("a second time, it is %q", again.Body)
	}
	v.owns("alice", 4*cent, 0)
	if p.ran("polled") != 1 || len(g.Charges(t, "alice")) != 2 {
		t.Errorf("%d runs, %d charges in all", p.ran("polled"), len(g.Charges(t, "alice")))
	}
	g.VerifyLedger(t)
}

// TestResumedErrorCostsNothing: promise 2. An error that comes on a resumed
// stream releases the call.
func TestResumedErrorCostsNothing(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	event, _ := v.call("failing")
	if answer := v.comeBack(event); answer.Error == nil || answer.Error.Message != "no luck" {
		t.Errorf("the rest of the stream is %q", answer.Body)
	}
	v.owns("alice", 100*cent, 0)
	g.VerifyLedger(t)
}

// TestFreeStreamsAreResumed: what costs nothing is resumed for nothing, and a
// list that comes on a resumed stream is filtered as any other.
func TestFreeStreamsAreResumed(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	event, _ := v.call("free")
	if answer := v.comeBack(event); answer.Result == nil || answer.Result.Meta.Charge != nil || !strings.Contains(answer.Body, "the secret of free") {
		t.Errorf("the rest of the stream is %q", answer.Body)
	}
	event, _ = v.read(v.send(http.MethodPost, `{"jsonrpc":"2.0","id":"l","method":"tools/list"}`, ""))
	list := v.comeBack(event)
	if strings.Contains(list.Body, "hidden") || !strings.Contains(list.Body, `"dev.farebox/price":{"amount":"0.01","currency":"USD"}`) || strings.Count(list.Body, `"name"`) != 2 {
		t.Errorf("the list is %q", list.Body)
	}
	v.owns("alice", 100*cent, 0)
	if n := len(g.Charges(t, "alice")); n != 0 {
		t.Errorf("%d charges", n)
	}
}

// TestSessionsBelongToTheirAccount: to the server all callers look alike, so a
// session, and the stream of a call, is good for the account alone that it was
// given to (CVE-2026-33946, CVE-2025-6515). The server hears nothing of others.
func TestSessionsBelongToTheirAccount(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, alice := g.NewAgent(t, "alice", "1.00")
	_, mallory := g.NewAgent(t, "mallory", "1.00")
	v := visit(t, g, alice.Secret)
	event, _ := v.call("polled")
	p.mu.Lock()
	heard := len(p.seen)
	p.mu.Unlock()
	foreign := *v
	foreign.secret = mallory.Secret
	for name, status := range map[string]int{http.MethodPost: 404, http.MethodGet: 404, http.MethodDelete: 404} {
		if resp := foreign.send(name, harness.ToolCall(1, "direct", `{}`), ""); resp.StatusCode != status {
			t.Errorf("%s with a foreign session: %d, want %d", name, resp.StatusCode, status)
		}
	}
	own := visit(t, g, mallory.Secret)
	heard += 2
	for name, e := range map[string]string{
		"a foreign event": event, "the server's own": "polled/0", "a changed one": event[:len(event)-1] + "A", "none": "A", "a session": own.session,
	} {
		if resp := own.send(http.MethodGet, "", e); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, resp.StatusCode)
		}
	}
	for name, s := range map[string]string{"the server's own": "up.1", "a changed one": own.session + "A", "an event": event} {
		forged := *own
		forged.session = s
		if resp := forged.send(http.MethodPost, harness.ToolCall(1, "direct", `{}`), ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("session id %s: %d, want 404", name, resp.StatusCode)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) != heard {
		t.Errorf("the server heard of it: %q", p.seen[heard:])
	}
	if n := len(g.Charges(t, "mallory")); n != 0 {
		t.Errorf("%d charges", n)
	}
}
