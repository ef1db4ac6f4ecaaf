package integration

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// moved is a server that redirects to its path with a slash at the end. Like Starlette,
// it takes the host for the header Location from the request.
type moved struct {
	url string

	mu    sync.Mutex
	asked map[string]int // number of requests, by method and path
	wrong []string
}

func serveMoved(t *testing.T, server string) *moved {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	m := &moved{asked: make(map[string]int)}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host, p.Out.URL.Path = target.Scheme, target.Host, target.Host, "/mcp"
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.note(r)
		if r.URL.Path == "/inner" {
			w.Header().Set("Location", "http://"+r.Host+"/inner/")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Location", "http://"+r.Host+"/inner/")
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	m.url = s.URL
	return m
}

func (m *moved) note(r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[r.Method+" "+r.URL.Path]++
	if r.Header.Get("Authorization") != "Bearer upstream" || r.Header.Get("X-Farebox-Account") == "" || len(r.Header.Values("X-Farebox-Key")) != 1 {
		m.wrong = append(m.wrong, fmt.Sprint(r.Method, r.URL, r.Header))
	}
}

// TestMovedServer checks a server that redirects to another path. A client can begin a
// session, open its stream and end it, as it could without the gateway. The gateway
// follows each redirect once, with the headers meant for the server, even behind a
// stripped prefix and through routes of a group. A paid call is charged once, and no
// response header reveals the server's address.
func TestMovedServer(t *testing.T) {
	t.Parallel()
	m := serveMoved(t, binaries.StartWeather(t))
	site := harness.SiteWithProxy(m.url, "server weather", "provider acme", "price get_forecast 0.01", "free list_cities", "identity_headers on", `upstream_authorization "Bearer upstream"`)
	site = strings.Replace(site, "handle /mcp* {", "handle_path /mcp* {\n\t\trewrite * /inner", 1)
	site = strings.Replace(site, "reverse_proxy", "handle {\n\t\treverse_proxy", 1)
	site = strings.Replace(site, "header_up Host {upstream_hostport}\n\t\t}", "}\n\t\t}", 1) // without header_up, the server gets the client's Host header
	g := binaries.StartGateway(t, site)
	account, key := g.NewAgent(t, "alice", "1.00")
	session := g.Connect(t, key.Secret, nil)
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}})
	if err != nil || result.IsError || !strings.Contains(harness.Text(result), "Oslo") {
		t.Fatalf("%+v, %v", result, err)
	}
	if charges := g.Charges(t, account.ID); len(charges) != 1 {
		t.Errorf("%d charges", len(charges))
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	answer := post(t, g, key.Secret, harness.ToolCall(1, "list_cities", `{}`))
	for _, name := range []string{"Location", "Content-Location", "Link"} {
		if v := answer.Header.Get(name); v != "" {
			t.Errorf("the answer has %s: %s", name, v)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, method := range []string{"POST", "GET", "DELETE"} {
		if first, second := m.asked[method+" /inner"], m.asked[method+" /inner/"]; first == 0 || first != second {
			t.Errorf("%s: %d requests before the redirect, %d after it", method, first, second)
		}
	}
	if len(m.wrong) > 0 {
		t.Errorf("requests with other headers: %q", m.wrong)
	}
	g.VerifyLedger(t)
}

// TestRefusedRedirect checks that a redirect to another host is not followed. The log
// names the host. The client learns of the redirect but not of the host.
func TestRefusedRedirect(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.RedirectHandler("http://elsewhere.example/mcp/", http.StatusPermanentRedirect))
	t.Cleanup(s.Close)
	g := binaries.StartGateway(t, harness.Site(s.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	answer := post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{}`))
	if answer.Status != http.StatusOK || answer.Code() != "UPSTREAM_FAILED" || !strings.Contains(answer.Body, "redirect (308)") || strings.Contains(answer.Body, "elsewhere") {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	if log := g.Process().Output(t); !strings.Contains(log, "http://elsewhere.example/mcp/") {
		t.Error("the log does not name the Location")
	}
}

// TestQuietEncodedStream checks that the events of a stream that a server compresses
// arrive one by one and uncompressed. Comments fill the pauses between events, and the
// headers are those of an uncompressed stream.
func TestQuietEncodedStream(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		rc, z := http.NewResponseController(w), gzip.NewWriter(w)
		_ = rc.Flush()
		for text := range next {
			_, _ = io.WriteString(z, text)
			_ = z.Flush()
			_ = rc.Flush()
		}
		_ = z.Close()
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	end := sync.OnceFunc(func() { close(next) })
	t.Cleanup(end)
	g := binaries.StartGateway(t, harness.Site(s.URL, "server weather", "provider acme", "price get_forecast 0.01", "keepalive 100ms"))
	account, key := g.NewAgent(t, "alice", "1.00")
	r, err := newRequest(t.Context(), g, http.MethodPost, "/mcp", key.Secret, harness.ToolCall(7, "get_forecast", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	await := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the stream ends before %q: %v", want, lines.Err())
	}
	send := func(text string) {
		select {
		case next <- text:
		case <-time.After(harness.Patience):
			t.Error("the server waits")
		}
	}
	await(": keepalive")
	await(": keepalive")
	send(event(progress))
	await("notifications/progress")
	await(": keepalive")
	send(event(goodAnswer))
	await("dev.farebox/receipt")
	end()
	for lines.Scan() {
	}
	if charges := g.Charges(t, account.ID); len(charges) != 1 || resp.Header.Get("Content-Encoding") != "" || lines.Err() != nil {
		t.Errorf("%d charges, headers %v, %v", len(charges), resp.Header, lines.Err())
	}
}
