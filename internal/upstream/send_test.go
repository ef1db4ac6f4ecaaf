package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

func untrusted(*http.Request) bool { return false }

// client returns a Client of the server at the given URL.
func client(t testing.TB, at string) *Client {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Network: "tcp", Address: u.Host, Host: u.Host, Trusted: untrusted})
	t.Cleanup(c.Close)
	return c
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://gateway/mcp?a=b", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// scripted is a server that reads one request at a time. It calls answer(n, r) and
// sends the result as the response. It closes the connection if answer returns nil.
type scripted struct {
	url    string
	answer func(n int, r *http.Request) []byte // n is the number of earlier requests on the same connection

	mu       sync.Mutex
	conns    int
	requests int
}

func serve(t testing.TB, answer func(n int, r *http.Request) []byte) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{url: "http://" + l.Addr().String(), answer: answer}
	var done sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); end(); done.Wait() })
	return s
}

func (s *scripted) serve(conn net.Conn) {
	s.mu.Lock()
	s.conns++
	s.mu.Unlock()
	in := bufio.NewReader(conn)
	for n := 0; ; n++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.requests++
		s.mu.Unlock()
		text := s.answer(n, r)
		if text == nil {
			return
		}
		if _, err := conn.Write(text); err != nil {
			return
		}
	}
}

func (s *scripted) counts() (conns, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns, s.requests
}

const hello = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"

// recorder is a ResponseRecorder that also records the heads of informational
// responses.
type recorder struct {
	*httptest.ResponseRecorder
	hints string
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 {
		r.ResponseRecorder.WriteHeader(status)
		return
	}
	r.hints += fmt.Sprint(status, r.Header()["Link"])
}

// TestSameAsReverseProxy checks that the server and the client get the same headers as
// through net/http's ReverseProxy with Caddy's additions, for each header that could
// differ.
func TestSameAsReverseProxy(t *testing.T) {
	seen := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var text strings.Builder
		fmt.Fprintf(&text, "%s %s %s %d %q\n", r.Method, r.RequestURI, r.Host, r.ContentLength, body)
		_ = r.Header.Write(&text)
		seen <- text.String()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("X-Twice", "1")
		w.Header().Add("X-Twice", "2")
		w.Header().Set("Keep-Alive", "timeout=7")
		w.Header().Set("Server", "theirs")
		if r.URL.Path == "/early" {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "the body")
	}))
	defer s.Close()
	target, _ := url.Parse(s.URL)
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", target.Host, target.Host
		p.Out.Header["X-Forwarded-For"] = nil
		p.SetXForwarded()
		p.Out.Header["Via"] = append(p.Out.Header["Via"], "1.1 Caddy")
		p.Out.Header.Del("Te")
		if _, ok := p.Out.Header["User-Agent"]; !ok {
			p.Out.Header["User-Agent"] = []string{""}
		}
		p.Out.Header.Set("Accept-Encoding", "identity")
	}, ModifyResponse: func(r *http.Response) error {
		r.Header.Add("Via", "1.1 Caddy")
		return nil
	}}
	c := client(t, s.URL)
	for name, change := range map[string]func(*http.Request){
		"plain":         func(*http.Request) {},
		"no user agent": func(r *http.Request) { r.Header.Del("User-Agent") },
		"user agent":    func(r *http.Request) { r.Header.Set("User-Agent", "mine/1") },
		"hop headers":   func(r *http.Request) { r.Header.Set("Keep-Alive", "x"); r.Header.Set("Te", "trailers") },
		"named by hop":  func(r *http.Request) { r.Header.Set("Connection", "X-Secret, close"); r.Header.Set("X-Secret", "s") },
		"forged": func(r *http.Request) {
			r.Header.Set("X-Forwarded-For", "9.9.9.9")
			r.Header.Set("X-Forwarded-Host", "evil")
		},
		"several values": func(r *http.Request) { r.Header["Accept"] = []string{"application/json", "text/event-stream"} },
		"escaped path":   func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/a/b c", "/a%2Fb%20c" },
		"other paths":    func(r *http.Request) { r.URL, _ = url.Parse("http://gateway/%E2%82%AC?x=%20&y") },
		"early hints":    func(r *http.Request) { r.URL.Path = "/early" },
		"IPv6":           func(r *http.Request) { r.RemoteAddr = "[fe80::1%eth0]:99" },
		"another host":   func(r *http.Request) { r.Host = "agents.example:8443" },
		"two proxies":    func(r *http.Request) { r.Header["Via"] = []string{"1.0 a", "1.1 b"} },
		"two agents":     func(r *http.Request) { r.Header["User-Agent"] = []string{"first", "second"} },
		"an empty agent": func(r *http.Request) { r.Header["User-Agent"] = []string{""} },
		"early data":     func(r *http.Request) { r.Header.Set("Early-Data", "1") },
		"no address":     func(r *http.Request) { r.RemoteAddr = "scion:1" },
		"over HTTP/2":    func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			build := func() *http.Request {
				r := post(`{"a":1}`)
				r.Header.Set("Accept-Encoding", "identity")
				change(r)
				return r
			}
			ours, theirs := &recorder{ResponseRecorder: httptest.NewRecorder()}, &recorder{ResponseRecorder: httptest.NewRecorder()}
			if err := c.Send(ours, build(), []byte(`{"a":1}`)); err != nil {
				t.Error(err)
			}
			we := <-seen
			proxy.ServeHTTP(theirs, build())
			they := <-seen
			if name == "over HTTP/2" {
				we = strings.Replace(we, "Via: 2.0 Caddy", "Via: 1.1 Caddy", 1)
			}
			if name == "IPv6" { // Caddy removes the zone of an IPv6 address
				they = strings.Replace(they, "fe80::1%eth0", "fe80::1", 1)
			}
			if we != they {
				t.Errorf("the server sees\n%swant\n%s", we, they)
			}
			if ours.hints != theirs.hints || ours.Code != theirs.Code || ours.Body.String() != theirs.Body.String() {
				t.Errorf("the client sees %d %q, want %d %q", ours.Code, ours.Body, theirs.Code, theirs.Body)
			}
			var a, b strings.Builder
			_, _ = ours.Header().Write(&a), theirs.Header().Write(&b)
			if a.String() != b.String() {
				t.Errorf("the client sees the headers\n%swant\n%s", a.String(), b.String())
			}
		})
	}
	if len(c.idle) != 1 {
		t.Errorf("%d idle connections, want 1", len(c.idle))
	}
}

// TestTrustedProxy checks that the X-Forwarded headers of a trusted proxy are kept.
func TestTrustedProxy(t *testing.T) {
	var head bytes.Buffer
	c := New(Options{Host: "server", Trusted: func(*http.Request) bool { return true }})
	r := post("")
	r.Header["X-Forwarded-For"] = []string{"1.1.1.1", "2.2.2.2"}
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Host", "outer.example\nX-B: c")
	out := bufio.NewWriter(&head)
	c.writeHead(out, r, "/mcp", 0)
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\n", "X-Forwarded-Proto: https\r\n", "X-Forwarded-Host: outer.example X-B: c\r\n"} {
		if !strings.Contains(head.String(), line) {
			t.Errorf("%q is missing in %q", line, head.String())
		}
	}
}

// TestNeverTwice checks promise 7 of docs/promises.md: the server receives each request
// only once, whatever it does after it has received the request. This also holds on a
// connection that has served other requests.
func TestNeverTwice(t *testing.T) {
	for name, second := range map[string][]byte{
		"it closes the connection": nil,
		"half a head":              []byte("HTTP/1.1 200 OK\r\nContent-Le"),
		"half a body":              []byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
		"nonsense":                 []byte("\x00\x01\x02\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(n int, _ *http.Request) []byte {
				switch n {
				case 0:
					return []byte(hello)
				case 1:
					return second
				}
				return nil
			})
			c := client(t, s.url)
			if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // some servers leave half a response open, so that only the context ends the request
			defer cancel()
			if err := c.Send(httptest.NewRecorder(), post("2").WithContext(ctx), []byte("2")); err == nil {
				t.Error("it was answered")
			}
			if conns, requests := s.counts(); conns != 1 || requests != 2 {
				t.Errorf("%d connections, %d requests", conns, requests)
			}
			if len(c.idle) != 0 {
				t.Error("the broken connection is kept")
			}
		})
	}
}

// TestClosedIdleConnection checks that no request fails because the server has closed
// an idle connection.
func TestClosedIdleConnection(t *testing.T) {
	closed := make(chan struct{}, 1)
	s := serve(t, func(int, *http.Request) []byte { return []byte(hello) })
	c := client(t, s.url)
	for range 3 {
		if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
			t.Fatal(err)
		}
		k := c.pop()
		if k == nil {
			t.Fatal("no connection was kept")
		}
		_ = k.Conn.(*net.TCPConn).CloseRead() // reads now end, as after the server's close
		c.put(k, idleTime)
	}
	close(closed)
	if conns, requests := s.counts(); conns != 3 || requests != 3 {
		t.Errorf("%d connections, %d requests", conns, requests)
	}
}

// TestUnaskedBytes checks that bytes that arrive without a request are not taken for
// the response to the next request. Otherwise a server that sends two responses would
// answer one agent with another agent's result.
func TestUnaskedBytes(t *testing.T) {
	sent := make(chan struct{}, 8)
	s := serve(t, func(_ int, r *http.Request) []byte {
		body, _ := io.ReadAll(r.Body)
		defer func() { sent <- struct{}{} }()
		answer := strings.Replace(hello, "hello", string(body), 1)
		return []byte(answer + strings.Replace(hello, "hello", "stale", 1))
	})
	c := client(t, s.url)
	for _, body := range []string{"first", "secnd", "third"} {
		w := httptest.NewRecorder()
		if err := c.Send(w, post(body), []byte(body)); err != nil || w.Body.String() != body {
			t.Errorf("%q, %v; want %q", w.Body, err, body)
		}
		<-sent
	}
	if conns, _ := s.counts(); conns != 3 {
		t.Errorf("%d connections, want 3", conns)
	}
}

// TestKeepAlive checks that an idle connection is given up before the time at which the
// server says that it will close it.
func TestKeepAlive(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                        idleTime,
		"timeout=5":               4 * time.Second,
		"timeout=5, max=100":      4 * time.Second,
		"max=9, Timeout=20":       19 * time.Second,
		"timeout=1":               time.Second / 2,
		"timeout=0":               0,
		"timeout=-3":              idleTime,
		"timeout=999999999999999": idleTime,
		"timeout=many":            idleTime,
	} {
		if got := keepOf(&http.Response{Header: http.Header{"Keep-Alive": {value}}}); got != want {
			t.Errorf("Keep-Alive %q: %v, want %v", value, got, want)
		}
	}
	s := serve(t, func(int, *http.Request) []byte {
		return []byte(strings.Replace(hello, "\r\n\r\n", "\r\nKeep-Alive: timeout=0\r\n\r\n", 1))
	})
	c := client(t, s.url)
	for range 2 {
		if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if conns, _ := s.counts(); conns != 2 {
		t.Errorf("%d connections, want 2", conns)
	}
}

// TestReap checks that idle connections are closed when they have been idle for too
// long, and after Close.
func TestReap(t *testing.T) {
	s := serve(t, func(int, *http.Request) []byte { return []byte(hello) })
	c := client(t, s.url)
	if err := c.Send(httptest.NewRecorder(), post("1"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	c.reap()
	if len(c.idle) != 1 || c.reaper == nil {
		t.Fatalf("%d idle connections before their time", len(c.idle))
	}
	c.idle[0].until = clock.Now()
	c.reap()
	if len(c.idle) != 0 || c.reaper != nil {
		t.Fatalf("%d idle connections after their time", len(c.idle))
	}
	k, err := c.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.put(k, idleTime)
	if _, err := k.Write(nil); len(c.idle) != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed client keeps a connection: %v", err)
	}
}

// TestLeave checks that Send ends when the context of its request ends, both before and
// after the head of the response.
func TestLeave(t *testing.T) {
	for name, head := range map[string]string{"before the head": "HTTP/1.1 200", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha"} {
		for reason, late := range map[string]bool{"left": false, "timeout": true} {
			t.Run(name+", "+reason, func(t *testing.T) {
				s := serve(t, func(int, *http.Request) []byte { return []byte(head) })
				c := client(t, s.url)
				ctx, cancel := context.WithCancel(t.Context())
				want := context.Canceled
				if late {
					ctx, cancel = context.WithTimeout(t.Context(), time.Second/10)
					want = context.DeadlineExceeded
				} else {
					stop := time.AfterFunc(time.Second/10, cancel)
					defer stop.Stop()
				}
				defer cancel()
				w := httptest.NewRecorder()
				err := c.Send(w, post("1").WithContext(ctx), []byte("1"))
				if name == "before the head" && !late {
					if err != nil || w.Code != statusLeft {
						t.Errorf("%d, %v", w.Code, err)
					}
				} else if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				if len(c.idle) != 0 {
					t.Error("the connection is kept")
				}
			})
		}
	}
}

// TestLargeBody checks two servers that get a large body. If a server responds before
// it has read the body, the client gets the response. A server that reads the body
// slowly gets all of it.
func TestLargeBody(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 32<<20)
	early := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge) // this server responds without reading the body
	}))
	defer early.Close()
	c := client(t, early.URL)
	w := httptest.NewRecorder()
	if err := c.Send(w, post(""), large); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d, %v", w.Code, err)
	}
	got := make(chan int, 1)
	late := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(iotest.HalfReader(r.Body))
		got <- len(body)
	}))
	defer late.Close()
	c = client(t, late.URL)
	for range 2 {
		if err := c.Send(httptest.NewRecorder(), post(""), large); err != nil || <-got != len(large) {
			t.Error(err)
		}
	}
	if len(c.idle) != 1 {
		t.Errorf("%d idle connections, want 1", len(c.idle))
	}
}

// TestStream checks that each piece of a stream arrives before the next piece is sent.
func TestStream(t *testing.T) {
	next := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}))
	defer s.Close()
	c := client(t, s.URL)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Send(w, r, nil); err != nil {
			t.Error(err)
		}
	}))
	defer front.Close()
	res, err := http.Get(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
			t.Fatalf("%q", lines.Text())
		}
		lines.Scan()
		next <- struct{}{}
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("%q, %v after the last event", lines.Text(), lines.Err())
	}
}

// TestManyAtOnce checks that under load each caller gets the response to its own
// request, and that connections are reused.
func TestManyAtOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer s.Close()
	c := client(t, s.URL)
	var done sync.WaitGroup
	for i := range 32 {
		done.Go(func() {
			draw := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range 100 {
				body := strings.Repeat(fmt.Sprintf("%d:%d ", i, n), 1+draw.IntN(2000))
				w := httptest.NewRecorder()
				if err := c.Send(w, post(body), []byte(body)); err != nil || w.Body.String() != body {
					t.Errorf("%d bytes of %d, %v", w.Body.Len(), len(body), err)
					return
				}
			}
		})
	}
	done.Wait()
	if n := len(c.idle); n == 0 || n > 32 {
		t.Errorf("%d idle connections", n)
	}
}
