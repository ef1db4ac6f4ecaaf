package bridge

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func echoServer(b *testing.B) *url.URL {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":`+paid("0.01")+`}`)
	}))
	b.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// BenchmarkDirect is a call by HTTP, for comparison with BenchmarkBridged.
func BenchmarkDirect(b *testing.B) {
	u := echoServer(b)
	body := toolCall(1, "x")
	for b.Loop() {
		resp, err := http.Post(u.String(), "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// BenchmarkBridged is the same call from a client on stdio, through a bridge.
func BenchmarkBridged(b *testing.B) {
	u := echoServer(b)
	bridge, err := New(Options{URL: u, Notes: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	in, write := io.Pipe()
	read, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- bridge.Run(b.Context(), in, out) }()
	answers := bufio.NewReaderSize(read, 64<<10)
	line := toolCall(1, "x") + "\n"
	for b.Loop() {
		if _, err := io.WriteString(write, line); err != nil {
			b.Fatal(err)
		}
		if _, err := answers.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
	_ = write.Close()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
