package inprocess

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// TestTransportStreams checks that the client can read a response while the handler
// still writes it. The response's header does not change after the handler has written
// the status. Closing the response's body makes further writes fail, and waits for the
// handler to return.
func TestTransportStreams(t *testing.T) {
	next, returned := make(chan struct{}), make(chan error, 1)
	client := &http.Client{Transport: Transport{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Test", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
		w.Header().Set("X-Test", "too late")
		_, _ = io.WriteString(w, "one")
		<-next
		_, _ = io.WriteString(w, "two")
		_, err := io.WriteString(w, "nobody reads this")
		returned <- err
	})}}
	resp, err := client.Get("http://inside/path")
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3)
	for i, want := range []string{"one", "two"} {
		if i == 1 {
			close(next)
		}
		if _, err := io.ReadFull(resp.Body, part); err != nil || string(part) != want {
			t.Errorf("read %q, %v; want %q", part, err, want)
		}
	}
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("X-Test") != "/path" {
		t.Errorf("status %d, header %v", resp.StatusCode, resp.Header)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-returned:
		if err == nil {
			t.Error("the handler wrote after its response was closed")
		}
	default:
		t.Error("Close returned before the handler")
	}
}

// TestTransportWithoutAnswer checks that a handler that writes nothing gives a response
// with the status 200 and an empty body.
func TestTransportWithoutAnswer(t *testing.T) {
	client := &http.Client{Transport: Transport{http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	resp, err := client.Get("http://inside/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || len(text) > 0 || resp.StatusCode != http.StatusOK {
		t.Errorf("%d %q, %v", resp.StatusCode, text, err)
	}
}

// body is a request body that closes a channel when it is itself closed.
type body struct {
	io.Reader
	closed chan struct{}
}

func (b *body) Close() error {
	close(b.closed)
	return nil
}

// TestTransportClosesBody checks that the request's body is closed as soon as the
// handler has returned.
func TestTransportClosesBody(t *testing.T) {
	sent := &body{strings.NewReader("all of it"), make(chan struct{})}
	client := &http.Client{Transport: Transport{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}}
	resp, err := client.Post("http://inside/", "text/plain", sent)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "all of it" {
		t.Errorf("read %q, %v", text, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-sent.closed:
	default:
		t.Error("the body of the request is open")
	}
}

// TestTransportEndsWithContext checks a request with a context that ends before the
// handler has written a status. The request must fail at once, and later writes of the
// handler must fail, too.
func TestTransportEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		leave, returned := make(chan struct{}), make(chan error, 1)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://inside/", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			synctest.Wait()
			cancel()
		}()
		resp, err := Transport{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-leave
			_, err := io.WriteString(w, "nobody reads this")
			returned <- err
		})}.RoundTrip(request)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("response %v, %v", resp, err)
		}
		close(leave)
		if err := <-returned; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler wrote for a client that has left: %v", err)
		}
	})
}
