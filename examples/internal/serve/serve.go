// Package serve serves the MCP servers of the examples over streamable HTTP.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	readHeaderTimeout = 10 * time.Second // the time limit for reading the head of a request
	drainTimeout      = time.Second      // the time limit for the wait for open calls when the server stops
)

// Main serves handler at the address until a signal stops the process. If serving
// fails, the process exits with an error. Messages that the process prints contain the
// program's name.
func Main(name, address string, handler http.Handler) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, name, address, handler); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Handler returns a handler that serves the MCP server at /mcp, and /healthz for
// programs that wait until the server is up. If stateless is true, the server keeps no
// sessions and also supports the stateless protocol of 2026-07-28.
func Handler(server *mcp.Server, stateless bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true},
	))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// run serves until the context ends. Then it waits at most drainTimeout for open calls
// to finish, and closes the remaining connections, such as idle event streams.
func run(ctx context.Context, name, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("%s: listening on http://%s/mcp\n", name, listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return server.Close()
	}
	return nil
}
