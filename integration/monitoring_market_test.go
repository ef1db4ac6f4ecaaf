package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// market is a deployment with two servers behind it, and with callers. The requests of
// these callers have every outcome that a request can have. The server "weather" is at
// /mcp, the server "search" at /search.
type market struct {
	*harness.Cluster
	upstream *httptest.Server
	client   *http.Client

	failing atomic.Bool   // true while the MCP server breaks off each answer
	flood   atomic.Bool   // true while a client guesses tokens
	release chan struct{} // each element makes the server answer one call of the tool "hold"
	kept    chan struct{} // closed to make the server answer calls of the tool "keep"
	keeping atomic.Int64  // number of calls of the tool "keep" that wait at the server

	secrets map[string]string // secrets of keys by the names of their accounts
}

// newMarket returns a market without gateways.
func newMarket(t *testing.T) *market {
	t.Helper()
	m := &market{release: make(chan struct{}, 1000), kept: make(chan struct{}), client: manyCalls(t, 50), secrets: map[string]string{}}
	m.upstream = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.upstream.Close)
	t.Cleanup(m.upstream.CloseClientConnections)
	return m
}

// serve is the MCP server behind the gateways.
func (m *market) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	var message struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result := `{"content":[{"type":"text","text":"done"}]}`
	switch {
	case m.failing.Load() || message.Params.Name == "flaky":
		panic(http.ErrAbortHandler)
	case message.Method == "initialize":
		w.Header().Set("Mcp-Session-Id", "session")
		result = `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`
	case message.Method == "tools/list":
		result = `{"tools":[]}`
	case message.Params.Name == "slow":
		pause(r.Context())
	case message.Params.Name == "keep":
		m.keeping.Add(1)
		<-m.kept
	case message.Params.Name == "hold":
		select {
		case <-m.release:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, message.ID, result)
}

// site returns a Caddyfile for the gateways of the market. A gateway with this
// Caddyfile keeps its store in the given SQLite file.
func (m *market) site(file string) string {
	weather := harness.Site(m.upstream.URL, "server weather", "provider acme", "fee 10% operator",
		"price get_forecast 0.01", "price slow 0.02", "price hold 0.01", "price keep 0.01", "price flaky 0.01",
		`price judge 0.01 charge_if "result.structuredContent.ok"`, "free ping", "unpriced deny")
	search := harness.Site(m.upstream.URL, "server search", "provider globex",
		`price "search_*" 0.002`, "free_quota 10/day", "rate_limit 4/1s")
	return strings.NewReplacer("level DEBUG", "level WARN", "currency USD", "currency USD\n\t\tverify_every 2s\n\t\tlimits {\n\t\t\tstreams 40\n\t\t}",
		"{$FAREBOX_DATA}/farebox.db", file).Replace(withHandle(weather, search, "/search"))
}

// habit is a request that a caller sends again and again.
type habit struct {
	every time.Duration
	do    func(ctx context.Context, g *harness.Gateway, n int)
}

const (
	often  = 200 * time.Millisecond
	seldom = time.Second
	rarely = 4 * time.Second
)

// open makes the accounts and keys, and starts the callers. The callers stop when the
// test ends.
func (m *market) open(t *testing.T) {
	t.Helper()
	admin := m.Nodes[0].AdminClient()
	for _, name := range []string{"payer", "searcher", "eager", "poor", "capped"} {
		credits := 1000 * ledger.Unit
		if name == "poor" {
			credits = 0
		}
		m.secrets[name] = m.NewAgent(t, name, credits).Secret
	}
	harness.Ask(t, admin, http.MethodPatch, "accounts/capped", map[string]any{"caps": map[string]any{"day": 5 * cent}}, nil)
	gone := m.NewKey(t, admin, map[string]any{"account": "payer"})
	harness.Ask(t, admin, http.MethodDelete, "keys/"+gone.ID, nil, nil)
	m.secrets["gone"] = gone.Secret

	ctx, stop := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for _, h := range m.habits() {
		callers.Go(func() {
			tick := time.NewTicker(h.every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					h.do(ctx, m.Nodes[n%len(m.Nodes)], n)
				}
			}
		})
	}
	t.Cleanup(func() {
		stop()
		callers.Wait()
	})
}

func (m *market) habits() []habit {
	weather, search := "/mcp", "/search"
	return []habit{
		{often, m.calls(weather, "payer", "get_forecast")},
		{often, m.calls(weather, "payer", "slow")},
		{often, m.calls(weather, "payer", "ping")},
		{often, m.calls(search, "searcher", "search_web")},
		{often / 2, m.calls(search, "eager", "search_news")}, // more calls than the key's rate allows
		{seldom, m.calls(weather, "payer", "judge")},
		{seldom, m.calls(weather, "poor", "get_forecast")},
		{seldom, m.calls(weather, "capped", "get_forecast")},
		{seldom, m.calls(weather, "gone", "get_forecast")},
		{seldom, m.calls(weather, "", "get_forecast")},
		{seldom, m.calls(weather, "payer", "unknown")},
		{rarely, m.calls(weather, "payer", "flaky")},
		{seldom, m.repeat},
		{seldom, m.converse},
		{rarely, m.listen},
		{2 * rarely, m.leave},
		{often / 10, m.stranger},
		{often / 10, m.stranger},
		{often / 10, m.stranger},
	}
}

// calls returns a caller of a tool. The caller ignores all answers.
func (m *market) calls(path, holder, tool string) func(context.Context, *harness.Gateway, int) {
	return func(ctx context.Context, g *harness.Gateway, n int) {
		_, _ = postAt(ctx, g, m.client, path, m.secrets[holder], harness.ToolCall(n, tool, `{}`))
	}
}

// repeat sends a call again and again under one idempotency key.
func (m *market) repeat(ctx context.Context, g *harness.Gateway, n int) {
	if r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(n, "get_forecast", `{}`))); err == nil {
		r.Header.Set("Idempotency-Key", fmt.Sprint("order", n/10))
		_, _ = g.Send(m.client, m.secrets["payer"], r)
	}
}

// converse begins a session and makes a call in it.
func (m *market) converse(ctx context.Context, g *harness.Gateway, n int) {
	begun, err := postAt(ctx, g, m.client, "/mcp", m.secrets["payer"],
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
	if err != nil {
		return
	}
	if r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(n, "get_forecast", `{}`))); err == nil {
		r.Header.Set("Mcp-Session-Id", begun.Header.Get("Mcp-Session-Id"))
		r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
		_, _ = g.Send(m.client, m.secrets["payer"], r)
	}
}

// listen opens a stream for a while.
func (m *market) listen(ctx context.Context, g *harness.Gateway, _ int) {
	ctx, stop := context.WithTimeout(ctx, rarely)
	defer stop()
	if resp, err := m.stream(ctx, g, m.secrets["payer"]); err == nil {
		<-ctx.Done()
		_ = resp.Body.Close()
	}
}

// stream opens a stream that ends with the context.
func (m *market) stream(ctx context.Context, g *harness.Gateway, secret string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Endpoint(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+secret)
	return m.client.Do(r)
}

// leave makes a paid call and closes the connection before the answer.
func (m *market) leave(ctx context.Context, g *harness.Gateway, n int) {
	ctx, stop := context.WithTimeout(ctx, seldom)
	defer stop()
	m.calls("/mcp", "payer", "hold")(ctx, g, n)
	m.release <- struct{}{}
}

// stranger sends requests with guessed tokens while flood is set.
func (m *market) stranger(ctx context.Context, g *harness.Gateway, n int) {
	if !m.flood.Load() {
		return
	}
	var tries sync.WaitGroup
	for range 4 {
		tries.Go(func() {
			_, _ = postAt(ctx, g, m.client, "/mcp", keys.DefaultFormat.Mint(keys.Agent, keys.Live), harness.ToolCall(n, "get_forecast", `{}`))
		})
	}
	tries.Wait()
}
