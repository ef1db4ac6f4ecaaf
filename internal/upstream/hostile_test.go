package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLargeRequestNeverTwice checks promise 7 of docs/promises.md: the server receives
// the head of a large request once. This holds even if the server closes a reused
// connection while the body is on its way.
func TestLargeRequestNeverTwice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var heads atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				first, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if first.ContentLength > maxInline {
					heads.Add(1)
					return
				}
				_, _ = io.Copy(io.Discard, first.Body)
				_, _ = io.WriteString(conn, hello)
				if _, err := http.ReadRequest(in); err == nil {
					heads.Add(1)
				}
			}()
		}
	}()
	c := client(t, "http://"+l.Addr().String())
	large := bytes.Repeat([]byte("x"), maxInline+1)
	const rounds = 300
	for range rounds {
		if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(httptest.NewRecorder(), post(""), large); err == nil {
			t.Fatal("a request without a response succeeded")
		}
	}
	if n := heads.Load(); n > rounds {
		t.Errorf("%d requests arrived %d times", rounds, n)
	}
}

// TestHeadOfQuietStream checks that the head of an event stream arrives before its
// first event.
func TestHeadOfQuietStream(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	c := client(t, s.URL)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = c.Send(w, r, nil) }))
	defer front.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, front.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = res.Body.Close()
}

// TestEndedContext checks that a request does not reach the server if the client has
// left before the request was sent, even if there is an idle connection.
func TestEndedContext(t *testing.T) {
	s := serve(t, func(int, *http.Request) []byte { return []byte(hello) })
	c := client(t, s.url)
	if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		w := httptest.NewRecorder()
		if err := c.Send(w, post("2").WithContext(ended), []byte("2")); err != nil || w.Code != statusLeft {
			t.Errorf("%d, %v", w.Code, err)
		}
	}
	if _, requests := s.counts(); requests != 1 || len(c.idle) != 1 {
		t.Errorf("%d requests, %d idle connections", requests, len(c.idle))
	}
}

// TestUnwritableRequest checks that a request that cannot be written as HTTP/1.1 is
// refused, and that the refusal leaves an idle connection open.
func TestUnwritableRequest(t *testing.T) {
	s := serve(t, func(int, *http.Request) []byte { return []byte(hello) })
	c := client(t, s.url)
	if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	for name, c2 := range map[string]struct {
		change func(*http.Request)
		want   error
	}{
		"a space in the query":      {func(r *http.Request) { r.URL.RawQuery = "a b" }, errTarget},
		"a line break in the query": {func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" }, errTarget},
		"a line in the method":      {func(r *http.Request) { r.Method = "GET /x HTTP/1.1\r\nA: b" }, errMethod},
		"no method":                 {func(r *http.Request) { r.Method = "" }, errMethod},
		"a NUL in a header":         {func(r *http.Request) { r.Header.Set("X-A", "a\x00b") }, errValue},
		"a line in a header":        {func(r *http.Request) { r.Header.Set("X-A", "a\r\nb: c") }, errValue},
	} {
		r := post("2")
		c2.change(r)
		if err := c.Send(httptest.NewRecorder(), r, []byte("2")); !errors.Is(err, c2.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, requests := s.counts(); requests != 1 || len(c.idle) != 1 {
		t.Errorf("%d requests, %d idle connections", requests, len(c.idle))
	}
}

// TestGetOnce checks that a GET, too, is sent only once, because it may resume the
// stream of a paid call.
func TestGetOnce(t *testing.T) {
	s := serve(t, func(_ int, r *http.Request) []byte {
		if r.Method == http.MethodGet {
			return nil
		}
		return []byte(hello)
	})
	c := client(t, s.url)
	var spare []*conn
	for range 4 {
		k, err := c.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		spare = append(spare, k)
	}
	for _, k := range spare {
		c.put(k, idleTime)
	}
	r := httptest.NewRequest(http.MethodGet, "http://gateway/mcp", nil)
	if err := c.Send(httptest.NewRecorder(), r, nil); err == nil {
		t.Error("it was answered")
	}
	if _, requests := s.counts(); requests != 1 {
		t.Errorf("the server received it %d times", requests)
	}
}

// TestStatusBelow100 checks that a status below 100 is an error. It must not be taken
// for an informational status, because the client would then read the response's body
// as the final response.
func TestStatusBelow100(t *testing.T) {
	s := serve(t, func(int, *http.Request) []byte {
		return []byte("HTTP/1.1 050 x\r\nContent-Length: 200\r\n\r\n" + hello)
	})
	c := client(t, s.url)
	w := httptest.NewRecorder()
	if err := c.Send(w, post("1"), []byte("1")); !errors.Is(err, errStatus) || w.Body.Len() > 0 || len(c.idle) > 0 {
		t.Errorf("%q, %v, %d idle connections", w.Body, err, len(c.idle))
	}
}

// panicking is a writer that panics in Write.
type panicking struct{ *httptest.ResponseRecorder }

func (panicking) Write([]byte) (int, error) { panic("from the writer") }

// TestPanickingWriter checks that a panic of the writer closes the connection and ends
// the goroutine that sends the body.
func TestPanickingWriter(t *testing.T) {
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "early")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	s.Start()
	defer s.Close()
	c := client(t, s.URL)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = c.Send(panicking{httptest.NewRecorder()}, post(""), bytes.Repeat([]byte("x"), 1<<20))
	}()
	<-closed
	if len(c.idle) != 0 {
		t.Error("the connection is kept")
	}
}

// TestTargets checks that the request line has the same target as net/http would write.
func TestTargets(t *testing.T) {
	seen := make(chan string, 1)
	s := serve(t, func(_ int, r *http.Request) []byte {
		seen <- r.RequestURI
		return []byte(hello)
	})
	c := client(t, s.url)
	for _, target := range []string{"/", "//evil/mcp", "/a%2Fb", "/mcp?", "/mcp?a=%0d%0ab", "/%E2%82%AC", "/a/../b"} {
		r := post("1")
		u, err := url.Parse("http://gateway" + target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		var want strings.Builder
		direct := r.Clone(t.Context())
		direct.Body = http.NoBody
		if err := direct.Write(&want); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(httptest.NewRecorder(), r, []byte("1")); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; !strings.HasPrefix(want.String(), "POST "+got+" HTTP/1.1\r\n") {
			t.Errorf("%q became %q; net/http writes %q", target, got, want.String())
		}
	}
}
