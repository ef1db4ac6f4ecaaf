package serve

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// TestStopIsClean checks that the server stops without an error when its context
// ends, even if an idle event stream is open. Afterwards its port is free again.
func TestStopIsClean(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	streaming := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		close(streaming)
		<-r.Context().Done()
	})
	done := make(chan error, 1)
	go func() { done <- run(ctx, "test", address, handler) }()
	go func() {
		for {
			if resp, err := http.Get("http://" + address); err == nil {
				_ = resp.Body.Close()
				return
			}
		}
	}()
	<-streaming
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("port is not free: %v", err)
	}
	_ = again.Close()
	if err := run(t.Context(), "test", "not an address", handler); err == nil {
		t.Error("run on a bad address: got no error")
	}
}
