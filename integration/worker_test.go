package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// workerTools are the tools of a worker. All of them do the same.
var workerTools = []string{"dig", "weave", "mill"}

// The paths of a worker, one for each form of its answers.
const (
	workerStreams = "/mcp"      // the tools answer in event streams
	workerJSON    = "/mcp/json" // the tools answer in JSON
)

// worker is an MCP server of the Go SDK in the test's process that counts the
// runs of its tools.
type worker struct {
	url  string
	runs atomic.Int64
	// work runs in a tool after the run is counted. Set it only while no call is
	// made.
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
	t.Cleanup(s.CloseClientConnections) // runs before Close, which waits for open connections
	w.url = s.URL
	return w
}

// workerResult is the text of every result of a worker.
const workerResult = "the work is done"

// pick returns the string for the n-th caller. Successive callers get the
// strings in turn.
func pick(list []string, n int) string { return list[n%len(list)] }
