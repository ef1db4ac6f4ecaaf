package exchange

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// TestShape checks that only requests of MCP's shape pass. Requests that would open
// a tunnel or be read as another method are refused.
func TestShape(t *testing.T) {
	const json = "application/json"
	for name, c := range map[string]struct {
		method string
		header map[string]string
		code   gate.Code
	}{
		"post":              {"POST", map[string]string{"Content-Type": json}, ""},
		"post with charset": {"POST", map[string]string{"Content-Type": json + "; charset=utf-8"}, ""},
		"post of text":      {"POST", map[string]string{"Content-Type": "text/plain"}, gate.MediaUnsupported},
		"post of nothing":   {"POST", nil, gate.MediaUnsupported},
		"hop content type":  {"POST", map[string]string{"Content-Type": json, "Connection": "close, content-type"}, gate.RequestUnsupported},
		"hop session":       {"POST", map[string]string{"Content-Type": json, "Connection": "mcp-session-id"}, gate.RequestUnsupported},
		"hop other":         {"POST", map[string]string{"Content-Type": json, "Connection": "close, x-other"}, ""},
		"empty override":    {"POST", map[string]string{"Content-Type": json, "X-HTTP-Method-Override": ""}, gate.RequestUnsupported},
		"spelled override":  {"POST", map[string]string{"Content-Type": json, "X_HTTP_Method-Override": "GET"}, gate.RequestUnsupported},
		"encoded":           {"POST", map[string]string{"Content-Type": json, "Content-Encoding": "gzip"}, gate.EncodingUnsupported},
		"two types":         {"POST", map[string]string{"Content-Type": json + ", text/plain"}, gate.MediaUnsupported},
		"get":               {"GET", map[string]string{"Accept": "text/event-stream"}, ""},
		"get of anything":   {"GET", map[string]string{"Accept": "*/*"}, ""},
		"get of any text":   {"GET", map[string]string{"Accept": "application/json, text/*"}, ""},
		"get without":       {"GET", nil, ""},
		"get of JSON":       {"GET", map[string]string{"Accept": "application/json"}, gate.RequestUnsupported},
		"get of a page":     {"GET", map[string]string{"Accept": "text/html"}, gate.RequestUnsupported},
		"get by a browser":  {"GET", map[string]string{"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, gate.RequestUnsupported},
		"delete":            {"DELETE", map[string]string{"Mcp-Session-Id": "s"}, ""},
		"delete of nothing": {"DELETE", nil, gate.RequestUnsupported},
		"options":           {"OPTIONS", nil, ""},
		"put":               {"PUT", map[string]string{"Content-Type": json}, gate.MethodNotAllowed},
		"connect":           {"CONNECT", nil, gate.MethodNotAllowed},
		"head":              {"HEAD", nil, gate.MethodNotAllowed},
		"upgrade":           {"POST", map[string]string{"Content-Type": json, "Upgrade": "websocket"}, gate.RequestUnsupported},
		"override":          {"POST", map[string]string{"Content-Type": json, "X-HTTP-Method-Override": "GET"}, gate.RequestUnsupported},
	} {
		r := httptest.NewRequest("POST", "/mcp", nil)
		r.Method = c.method
		for n, v := range c.header {
			r.Header.Set(n, v)
		}
		refusal := checkShape(r)
		if got := codeOf(refusal); got != c.code {
			t.Errorf("%s: got %q, want %q", name, got, c.code)
		}
	}
}

func codeOf(r *gate.Refusal) gate.Code {
	if r == nil {
		return ""
	}
	return r.Code
}

// TestShapeOfSessions checks that a request with two session ids is refused, and that a
// GET or DELETE with a body is refused. With an unread body, a stream would outlive its
// client.
func TestShapeOfSessions(t *testing.T) {
	for name, c := range map[string]struct {
		method   string
		sessions []string
		length   int64
		code     gate.Code
	}{
		"post":                {"POST", []string{"s"}, 2, ""},
		"post in two":         {"POST", []string{"s", "s"}, 2, gate.RequestUnsupported},
		"get":                 {"GET", []string{"s"}, 0, ""},
		"get with a body":     {"GET", []string{"s"}, 2, gate.RequestUnsupported},
		"get in chunks":       {"GET", []string{"s"}, -1, gate.RequestUnsupported},
		"delete with a body":  {"DELETE", []string{"s"}, 2, gate.RequestUnsupported},
		"delete of two":       {"DELETE", []string{"s", "t"}, 0, gate.RequestUnsupported},
		"options with a body": {"OPTIONS", nil, 2, ""},
	} {
		r := httptest.NewRequest(c.method, "/mcp", nil)
		r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"text/event-stream"}, "Mcp-Session-Id": c.sessions}
		r.ContentLength = c.length
		if got := codeOf(checkShape(r)); got != c.code {
			t.Errorf("%s: got %q, want %q", name, got, c.code)
		}
	}
}

// TestEncoding checks that a body that the server could decode to another text is
// refused.
func TestEncoding(t *testing.T) {
	for name, c := range map[string]struct {
		types    []string
		encoding string
		ok       bool
	}{
		"plain":       {[]string{"application/json"}, "", true},
		"utf-8":       {[]string{"application/json; charset=UTF-8"}, "identity", true},
		"utf-16":      {[]string{"application/json; charset=utf-16"}, "", false},
		"gzip":        {[]string{"application/json"}, "gzip", false},
		"two headers": {[]string{"application/json", "application/json; charset=utf-16"}, "", false},
	} {
		r := httptest.NewRequest("POST", "/mcp", nil)
		r.Header["Content-Type"] = c.types
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		if refusal := checkEncoding(r); (refusal == nil) != c.ok {
			t.Errorf("%s: got %v", name, refusal)
		}
	}
}

// TestOrigin checks that web pages of other origins are refused, while the
// request's own host and listed origins are allowed.
func TestOrigin(t *testing.T) {
	site := newSite()
	site.Origins = map[string]bool{"https://app.example.com": true}
	for origin, ok := range map[string]bool{
		"":                           true,
		"https://mcp.example.com":    true,
		"http://MCP.example.com":     true,
		"https://app.example.com":    true,
		"https://app.example.com.":   false,
		"https://evil.example.com":   false,
		"null":                       false,
		"https://mcp.example.com:81": false,
		"file://mcp.example.com":     false,
	} {
		r := httptest.NewRequest("POST", "http://mcp.example.com/mcp", nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		x := New(site, new(fakeHost), nil, httptest.NewRecorder(), r)
		if refusal := x.checkOrigin(); (refusal == nil) != ok {
			t.Errorf("%q: got %v", origin, refusal)
		}
	}
}

// TestHostOnLoopback checks that a foreign name that was pointed at the loopback
// interface is refused there (DNS rebinding). On other interfaces any name passes,
// because there the routes of the web server decide about names.
func TestHostOnLoopback(t *testing.T) {
	named := func(r *http.Request) bool {
		return New(newSite(), new(fakeHost), nil, httptest.NewRecorder(), r).loopbackNamed()
	}
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:80": true,
		"evil.example.com": false, "evil.example.com:80": false, "localhost.evil.example.com": false, "": false, "10.0.0.1": false,
	} {
		r := httptest.NewRequest("POST", "/mcp", nil)
		r.Host = host
		loopback := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80})
		if got := named(r.WithContext(loopback)); got != ok {
			t.Errorf("%q: %v", host, got)
		}
		quic := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UDPAddr{IP: net.IPv6loopback, Port: 80})
		if got := named(r.WithContext(quic)); got != ok {
			t.Errorf("%q over HTTP/3: %v", host, got)
		}
		public := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80})
		if !named(r.WithContext(public)) {
			t.Errorf("%q is judged on a public interface", host)
		}
	}
}

// TestCleanRequest checks that cleanRequest removes each header with which a client
// could deceive the server or the transport. These are credentials, identity headers in
// any spelling, headers named in Connection (CVE-2026-30851), trailers, and headers
// that make a transport send a POST twice. Only checked headers are forwarded (promise
// 7 of docs/promises.md), so a header in another spelling cannot bring a session id, an
// event id or a name to the server.
func TestCleanRequest(t *testing.T) {
	r := httptest.NewRequest("POST", "/mcp", nil)
	r.Header = http.Header{
		"Authorization":           {"Bearer x"},
		"Proxy-Authorization":     {"Basic x"},
		"Connection":              {"X-Hop, Mcp-Session-Id", "close"},
		"X-Hop":                   {"1"},
		"Mcp-Session-Id":          {"s"},
		"X-Farebox-Account":       {"acct_evil"},
		"x-farebox-key":           {"raw"},
		"X_Farebox_Scopes":        {"admin"},
		"X.Farebox-Account":       {"acct_evil"},
		"X-Farebox_Anything-Else": {"1"},
		"Idempotency-Key":         {"i"},
		"X-Idempotency-Key":       {"i"},
		"Expect":                  {"100-continue"},
		"Origin":                  {"https://mcp.example.com"},
		"Accept":                  {"application/json"},
		"Traceparent":             {"00-1"},
		"Mcp_Session_Id":          {"unsealed"},
		"Mcp.Session-Id":          {"unsealed"},
		"Last_event_id":           {"unsealed"},
		"Mcp-Protocol_Version":    {"2026-07-28"},
		"Mcp_Name":                {"other"},
		"Mcp_Method":              {"tools/list"},
		"Content_Encoding":        {"gzip"},
		"Mcp-Param-Some_name":     {"1"}, // an argument of a tool call
	}
	r.Trailer = http.Header{"X-Farebox-Account": nil}
	cleanRequest(r, new(KeyHeader))
	if len(r.Header) != 3 || r.Header.Get("Mcp-Param-Some_name") == "" || r.Header.Get("Accept") == "" || r.Header.Get("Traceparent") == "" || r.Trailer != nil {
		t.Errorf("left: %v, trailer %v", r.Header, r.Trailer)
	}
}

// TestOnlyOnce checks that a request is not sent again after its head was sent,
// although the transport or a proxy's retry would send it again.
func TestOnlyOnce(t *testing.T) {
	var ran atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		ran.Add(1)
		panic(http.ErrAbortHandler) // closes the connection after the tool ran
	}))
	defer upstream.Close()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()

	send := func(r *http.Request) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = p.(error)
			}
		}()
		resp, err := transport.RoundTrip(r)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	r, err := http.NewRequest("POST", upstream.URL, strings.NewReader("{}")) // http.NewRequest sets GetBody, as a careless handler might
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", "k") // because of this header, http.Transport may send a POST again
	r, _ = sendOnce(r)
	if err := send(r); err == nil {
		t.Fatal("the upstream gave an answer")
	}
	if err := send(r); !errors.Is(err, errTwice) { // sends the request again, as a proxy's retry would
		t.Errorf("sent again: %v", err)
	}
	if n := ran.Load(); n != 1 {
		t.Errorf("the tool ran %d times", n)
	}
}

// TestOnlyOnceAllowsAnotherDial checks that another upstream may be tried after a
// dial failed, because nothing was sent.
func TestOnlyOnceAllowsAnotherDial(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest("POST", dead, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r, _ = sendOnce(r)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	if _, err := transport.RoundTrip(r); err == nil {
		t.Fatal("the dead upstream answered")
	}
	again, err := http.NewRequestWithContext(r.Context(), "POST", upstream.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(again)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

// TestOnlyOnceGuardsPosts checks that only a POST is guarded. HTTP/2 retries other
// requests under a lock, where the guard must not panic.
func TestOnlyOnceGuardsPosts(t *testing.T) {
	for method, guarded := range map[string]bool{"POST": true, "GET": false, "DELETE": false} {
		r := httptest.NewRequest(method, "/mcp", nil)
		r, _ = sendOnce(r)
		if (httptrace.ContextClientTrace(r.Context()).GetConn != nil) != guarded {
			t.Errorf("%s: guarded is %v", method, !guarded)
		}
	}
}
