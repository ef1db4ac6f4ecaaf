package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	gomcp "github.com/mark3labs/mcp-go/mcp"
	goserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// The tools of each attacked server. One tool is free, one has a price, and one is
// missing from the price book.
const (
	cheapTool     = "cheap"
	expensiveTool = "expensive"
	forbiddenTool = "forbidden"
)

var attackedTools = []string{cheapTool, expensiveTool, forbiddenTool}

// attacked is a real MCP server that reports the requests it has received and the
// tools it has run.
type attacked struct {
	name string
	url  string // the base URL of the server
	take func(testing.TB) events
}

// events lists the requests that a server received, and the tools that it ran, since
// the last query.
type events struct {
	Heard [][]byte `json:"heard"` // the raw bodies of all requests
	Ran   []string `json:"ran"`   // the names of the tools that were run
}

// journal collects events.
type journal struct {
	mu     sync.Mutex
	events events
}

func (j *journal) take(testing.TB) events {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.events
	j.events = events{}
	return e
}

func (j *journal) ran(tool string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events.Ran = append(j.events.Ran, tool)
}

// listen records the body of each request before the server reads it.
func (j *journal) listen(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the client has disconnected
		}
		j.mu.Lock()
		j.events.Heard = append(j.events.Heard, body)
		j.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// startAttacked starts each kind of server with its default settings.
func startAttacked(t *testing.T) []attacked {
	t.Helper()
	return []attacked{
		attackedGo(t, "mcp-go", mcpGoServer),
		attackedGo(t, "go-sdk", goSDKServer(false)),
		attackedGo(t, "go-sdk-stateless", goSDKServer(true)),
		attackedNode(t),
	}
}

func attackedGo(t *testing.T, name string, handler func(ran func(string)) http.Handler) attacked {
	j := new(journal)
	server := httptest.NewServer(j.listen(handler(j.ran)))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // runs before Close, which waits for open connections
	return attacked{name: name, url: server.URL, take: j.take}
}

func mcpGoServer(ran func(string)) http.Handler {
	server := goserver.NewMCPServer("attacked", "1.0.0")
	for _, tool := range attackedTools {
		server.AddTool(gomcp.NewTool(tool), func(context.Context, gomcp.CallToolRequest) (*gomcp.CallToolResult, error) {
			ran(tool)
			return gomcp.NewToolResultText(tool), nil
		})
	}
	return goserver.NewStreamableHTTPServer(server, goserver.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler)))
}

func goSDKServer(stateless bool) func(ran func(string)) http.Handler {
	return func(ran func(string)) http.Handler {
		server := mcp.NewServer(&mcp.Implementation{Name: "attacked", Version: "1.0.0"}, nil)
		for _, tool := range attackedTools {
			mcp.AddTool(server, &mcp.Tool{Name: tool}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
				ran(tool)
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: tool}}}, nil, nil
			})
		}
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: stateless})
	}
}

func attackedNode(t *testing.T) attacked {
	port := harness.FreePort(t)
	p := harness.Start(t, "attacked.mjs", filepath.Join(t.TempDir(), "attacked.log"), nil,
		"node", filepath.Join(binaries.Root, "integration", "node", "attacked.mjs"), port)
	s := attacked{name: "typescript", url: "http://127.0.0.1:" + port}
	p.AwaitHTTP(t, s.url+"/journal")
	s.take = func(t testing.TB) events {
		t.Helper()
		resp, err := http.Get(s.url + "/journal")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var e events
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	return s
}
