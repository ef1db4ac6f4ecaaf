package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// workerTools are the tools of a worker. They do the same.
var workerTools = []string{"dig", "weave", "mill"}

// The two ways a worker answers, by path.
const (
	workerStreams = "/mcp"      // as event streams
	workerJSON    = "/mcp/json" // as JSON
)

// worker is an MCP server of the Go SDK in the test's process, which knows how
// often its tools ran.
type worker struct {
	url  string
	runs atomic.Int64
	// work runs in a tool after its run is counted; set it while no call is made.
	work func(ctx context.Context, run int64)
}

func startWorker(t *testing.T) *worker {
	t.Helper()
	w := &worker{work: func(context.Context, int64) {}}
	server := mcp.NewServer(&mcp.Implementation{Name: "worker", Version: "1.0.0"}, nil)
	for _, tool := range workerTools {
		mcp.AddTool(server, &mcp.Tool{Name: tool}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			w.work(ctx, w.runs.Add(1))
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: workerResult}}}, nil, nil
		})
	}
	mux := http.NewServeMux()
	for path, json := range map[string]bool{workerStreams: false, workerJSON: true} {
		mux.Handle(path, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
			&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: json, PropagateRequestCancellation: true}))
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // before Close, which waits for them
	w.url = s.URL
	return w
}

// workerResult is the text of every result of a worker.
const workerResult = "the work is done"

// pick returns one of the strings for the n-th caller, all of them in turn.
func pick(list []string, n int) string { return list[n%len(list)] }
