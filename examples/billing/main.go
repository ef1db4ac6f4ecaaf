// Command billing is a small MCP server of invoices over streamable HTTP, for
// demonstrations and tests. It sells nothing and knows nothing of Farebox:
// who may call it, and at what price, is decided by a gateway in front of it.
// Its invoices are invented and kept in memory: at each start they are the same.
package main

import (
	"context"
	"errors"
	"flag"
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
	readHeaderTimeout = 10 * time.Second // how long a client may take for its request head
	drainTimeout      = time.Second      // how long open calls may take to end at a stop
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3002", "address to listen on")
	stateless := flag.Bool("stateless", false, "keep no sessions; also speaks the stateless protocol of 2026-07-28")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, newHandler(newServer(newBook()), *stateless)); err != nil {
		fmt.Fprintln(os.Stderr, "billing:", err)
		os.Exit(1)
	}
}

// newHandler serves the server at /mcp, and /healthz for whoever waits for it.
func newHandler(server *mcp.Server, stateless bool) http.Handler {
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

// run serves until the context ends, then lets open calls finish for a while
// and cuts off what is left, such as idle event streams.
func run(ctx context.Context, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("billing: listening on http://%s/mcp\n", listener.Addr())
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
