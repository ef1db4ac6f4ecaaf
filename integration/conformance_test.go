package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// These programs of the official Go SDK are made to be tested by the conformance
// suite.
const (
	conformanceServer = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
	conformanceClient = "github.com/modelcontextprotocol/go-sdk/conformance/everything-client"
)

// revisions are the suite's sets of requirements: one for the protocol versions
// with sessions, one for the stateless version.
var revisions = []string{"2025-11-25", "2026-07-28"}

// conforming is a server that the suite tests.
type conforming struct {
	name      string
	start     func(*testing.T) string // starts a new server and returns its URL
	revisions []string                // protocol versions to compare
	full      string                  // the revision that the server implements in full, or ""
	scenario  string                  // the only scenario to run, or "" for all
}

// TestConformanceServer checks promise 9 of docs/promises.md. Every check of the
// official conformance suite has the same outcome directly and through the gateway,
// where every tool has a price and receipts are on. The test uses servers with and
// without sessions, and the requirements of protocol versions with and without
// sessions.
func TestConformanceServer(t *testing.T) {
	t.Parallel()
	program := binaries.BuildModule(t, conformanceServer)
	official := func(flag string) func(*testing.T) string {
		return func(t *testing.T) string {
			port := harness.FreePort(t)
			url := "http://localhost:" + port + "/mcp"
			harness.Start(t, "conformance server", filepath.Join(t.TempDir(), "server.log"), nil, program, "-http=127.0.0.1:"+port, flag).AwaitHTTP(t, url)
			return url
		}
	}
	for _, c := range []conforming{
		{name: "sessions", start: official("-stateless=false"), revisions: revisions, full: "2025-11-25"},
		{name: "stateless", start: official("-stateless=true"), revisions: revisions, full: "2026-07-28"},
		{name: "resumable", start: resumable, revisions: revisions[:1], full: "2025-11-25", scenario: "server-sse-polling"},
		{name: "everything", start: func(t *testing.T) string { return binaries.StartEverything(t) + "/mcp" }, revisions: revisions[:1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, revision := range c.revisions {
				t.Run(revision, func(t *testing.T) { c.compare(t, revision) })
			}
		})
	}
}

// compare runs the suite against a fresh server and against another one behind
// a gateway.
func (c conforming) compare(t *testing.T, revision string) {
	selection := harness.Requirements(revision)
	if c.scenario != "" {
		selection = harness.Scenario(c.scenario, revision)
	}
	direct := binaries.ConformServer(t, selection, c.start(t), "")
	g := binaries.StartGateway(t, anyHost(harness.Site(c.start(t), "server conformance", "provider acme", "unpriced 0.001", "receipts on")))
	_, key := g.NewAgent(t, "suite", "1000.00")
	through := binaries.ConformServer(t, selection, g.Endpoint(), key.Secret)

	if c.full == revision && direct.Exit != 0 {
		t.Errorf("directly, the suite ends with %d", direct.Exit)
	}
	compareRuns(t, direct, through, c.full == revision)
	settled(t, g, "suite", c.full == revision)
}

// resumable starts a server with the tool for the scenario server-sse-polling, in which
// the server closes a stream in the middle of a call. The server stores events for a
// client that reconnects. The suite's usual server stores no events.
func resumable(t *testing.T) string {
	server := mcp.NewServer(&mcp.Implementation{Name: "resumable", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "test_reconnection"}, func(ctx context.Context, req *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		req.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "resumed"}}}, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)})
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // runs before Close, which waits for open connections
	return s.URL + "/mcp"
}

// anyHost makes the site match every host, so that the gateway itself, not
// Caddy's site matching, handles a request for a foreign host.
func anyHost(caddyfile string) string {
	return strings.Replace(caddyfile, "http://localhost:{$FAREBOX_PORT}", "http://:{$FAREBOX_PORT}", 1)
}

// compareRuns fails the test for every check with a different outcome, and also if the
// direct run proves nothing because no check was made or passed. If the server does not
// implement the revision in full, the gateway may pass checks that the server fails.
// The reason is that the gateway refuses bad requests before they reach the server.
func compareRuns(t *testing.T, direct, through harness.Conformance, full bool) {
	t.Helper()
	if direct.Scenarios() == 0 || direct.Count("SUCCESS") == 0 {
		t.Fatalf("directly, %d scenarios were run and %d checks passed", direct.Scenarios(), direct.Count("SUCCESS"))
	}
	if direct.Exit != through.Exit {
		t.Errorf("directly, the suite ends with %d; through the gateway with %d", direct.Exit, through.Exit)
	}
	for _, difference := range direct.Differences(through) {
		if full || !difference.Better() {
			t.Error(difference)
		}
	}
	t.Logf("%d scenarios, %d of %d checks passed directly, %d of %d through the gateway",
		direct.Scenarios(), direct.Count("SUCCESS"), len(direct.Checks), through.Count("SUCCESS"), len(through.Checks))
}

// settled checks that no credits are reserved, that the books balance, and that the
// gateway has refused no request because of its token. If paid is true, at least one
// call must have been charged.
func settled(t *testing.T, g *harness.Gateway, account string, paid bool) {
	t.Helper()
	if paid && len(g.Charges(t, account)) == 0 {
		t.Error("nothing was charged")
	}
	if a := g.Account(t, account); a.Reserved != 0 {
		t.Errorf("%s is still reserved", a.Reserved)
	}
	g.VerifyLedger(t)
	for sample, n := range g.Metrics(t) {
		if refusedToken.MatchString(sample) && n > 0 {
			t.Errorf("%s: %v requests", sample, n)
		}
	}
}

// TestConformanceClient checks promise 9 of docs/promises.md from the client's side.
// The official client's requests look the same to the suite's own servers whether they
// come directly or through the gateway, and the answers look the same to the client.
func TestConformanceClient(t *testing.T) {
	t.Parallel()
	client := binaries.BuildModule(t, conformanceClient)
	script := filepath.Join(binaries.Root, "integration", "testdata", "conformance-client.sh")
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			tokens := filepath.Join(t.TempDir(), "token")
			g := binaries.StartGateway(t, suiteSite(tokens))
			_, key := g.NewAgent(t, "suite", "1000.00")
			if err := os.WriteFile(tokens, []byte(key.Secret), 0o600); err != nil {
				t.Fatal(err)
			}
			environment := []string{"CONFORMANCE_CLIENT=" + client}
			selection := harness.Requirements(revision)
			direct := binaries.ConformClient(t, selection, environment, "sh", script).Without("auth/")
			through := binaries.ConformClient(t, selection, append(environment, "CONFORMANCE_GATEWAY=http://localhost:"+g.Port), "sh", script).Without("auth/")
			if n := direct.Count("FAILURE"); n > 0 {
				t.Errorf("directly, %d checks fail", n)
			}
			compareRuns(t, direct, through, true)
			settled(t, g, "suite", true)
		})
	}
}

// refusedToken matches the metric that counts requests with a missing or wrong
// token.
var refusedToken = regexp.MustCompile(`^farebox_requests_total\{.*decision="TOKEN_`)

// suiteSite returns a Caddyfile with a site that puts a gateway in front of every
// port of this machine, under the path /to/PORT. The suite's client has no token, so
// the site adds to each request the token from the given file.
func suiteSite(tokens string) string {
	site := harness.SiteWithProxy("http://upstream", "server conformance", "provider acme", "unpriced 0.001", "receipts on")
	return strings.NewReplacer("reverse_proxy upstream", "reverse_proxy localhost:{re.to.1}", "handle /mcp* {", `@to path_regexp to ^/to/(\d+)(/.*)?$
	handle @to {
		rewrite {re.to.2}
		request_header Authorization "Bearer {file.`+tokens+`}"`).Replace(site)
}
