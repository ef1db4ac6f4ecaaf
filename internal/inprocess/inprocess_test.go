package inprocess

import (
	"io"
	"net/http"
	"testing"
)

// TestTransportStreams: a response can be read while its handler still writes it.
// Closing the body makes further writes fail and waits for the handler to return.
func TestTransportStreams(t *testing.T) {
	next, returned := make(chan struct{}), make(chan error, 1)
	client := &http.Client{Transport: Transport{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Test", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
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
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("X-Test") != "/path" {
		t.Errorf("status %d, header %v", resp.StatusCode, resp.Header)
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

// TestTransportWithoutAnswer: if the handler writes nothing, the response is 200 with an
// empty body.
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
