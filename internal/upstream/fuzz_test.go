package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzResponse checks that for every response the client sees the same as through
// net/http's Transport, and the next request on the connection gets its own response.
func FuzzResponse(f *testing.F) {
	for _, text := range []string{
		hello,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + hello,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + hello,
		"HTTP/1.1 200 OK\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 002 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 {
			return
		}
		s := serve(t, func(n int, r *http.Request) []byte {
			if r.Header.Get("X-Second") != "" {
				return []byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nthe second")
			}
			return text
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // a short time, because many texts of a fuzzed response lack their end
		defer cancel()
		c := client(t, s.url)
		w := &recorder{ResponseRecorder: httptest.NewRecorder()}
		err := c.Send(w, post("1").WithContext(ctx), []byte("1"))
		cancel()

		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/mcp", strings.NewReader("1"))
		r.Header.Set("Accept-Encoding", "identity")
		res, want := transport.RoundTrip(r)
		if want == nil && (res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode < 100) {
			_ = res.Body.Close()
			if err == nil { // http.Transport accepts status 101 and statuses below 100, but Send must refuse them
				t.Errorf("the status %d passed", res.StatusCode)
			}
			return
		}
		if want != nil {
			if err == nil {
				t.Errorf("%d %q passed; want %v", w.Code, w.Body, want)
			}
			return
		}
		body, want := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if w.Code != res.StatusCode || w.Body.String() != string(body) || (err == nil) != (want == nil) {
			t.Errorf("%d %q %v; want %d %q %v", w.Code, w.Body, err, res.StatusCode, body, want)
		}
		moveHeader(http.Header{}, res.Header) // remove the headers for one hop, as Send does
		for name, values := range res.Header {
			if !slices.Equal(w.Header()[name], values) && name != "Via" {
				t.Errorf("%s: %q, want %q", name, w.Header()[name], values)
			}
		}
		second := httptest.NewRecorder()
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		again := post("2").WithContext(ctx)
		again.Header.Set("X-Second", "1")
		if err := c.Send(second, again, []byte("2")); err != nil || second.Body.String() != "the second" {
			t.Errorf("the next request got %q, %v", second.Body, err)
		}
	})
}
