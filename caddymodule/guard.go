package caddymodule

import (
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"errors"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/gate"
)

// checkShape lets only requests of the shape of MCP's streamable HTTP pass.
// What would switch protocols would run past every check, and is refused.
func checkShape(r *http.Request) *gate.Refusal {
	if logsCredentials(r) {
		return &gate.Refusal{Code: gate.Misconfigured, Cause: errCredentialsLogged}
	}
	for name := range r.Header {
		switch identitySpelling.Replace(strings.ToLower(name)) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			return unsupported("headers that override the method are not allowed")
		case "upgrade", ":protocol":
			return unsupported("a connection cannot be upgraded here")
		}
	}
	for _, name := range hopNames(r) {
		if slices.Contains(judged, name) || strings.HasPrefix(name, "Mcp-") {
			return unsupported("the header " + name + " cannot be for this hop alone")
		}
	}
	if len(r.Header.Values("Mcp-Session-Id")) > 1 {
		return unsupported("a request belongs to one session: there is more than one Mcp-Session-Id header")
	}
	// RFC 9110, 9.3.1: such content has no meaning. While it is unread, net/http
	// does not see the client leave, and a stream would be kept for nobody.
	if r.Method != http.MethodPost && r.Method != http.MethodOptions && r.ContentLength != 0 {
		return unsupported("only a POST has a body")
	}
	switch r.Method {
	case http.MethodPost:
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || media != "application/json" {
			return &gate.Refusal{Code: gate.MediaUnsupported}
		}
		return checkEncoding(r)
	case http.MethodGet:
		if !strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Accept"), ",")), "text/event-stream") {
			return unsupported("this is an MCP server: a GET must accept text/event-stream")
		}
	case http.MethodDelete:
		if r.Header.Get("Mcp-Session-Id") == "" {
			return unsupported("a DELETE ends a session: it must name one in Mcp-Session-Id")
		}
	case http.MethodOptions:
	default:
		return &gate.Refusal{Code: gate.MethodNotAllowed}
	}
	return nil
}

// judged are the headers by which a request is judged: one that is dropped on
// the way would make it another.
var judged = []string{"Authorization", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Accept", "Origin", "Host"}

// spelledOnce are the headers, as spelled returns them, of which a request has
// only the one spelling that was judged or that the gateway set.
var spelledOnce = map[string]bool{
	"mcp-session-id": true, "last-event-id": true, "mcp-protocol-version": true, "mcp-method": true, "mcp-name": true,
	"content-type": true, "content-encoding": true, "content-length": true, "transfer-encoding": true,
}

// misspelled reports whether a header is one of these in another spelling, which
// some servers (CGI, WSGI) take for the same.
func misspelled(name, spelled string) bool {
	return spelledOnce[spelled] && !strings.EqualFold(name, spelled)
}

// hopNames returns the names of headers that are for this hop alone
// (RFC 9110, 7.6.1).
func hopNames(r *http.Request) (names []string) {
	for _, value := range r.Header.Values("Connection") {
		for name := range strings.SplitSeq(value, ",") {
			names = append(names, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return names
}

func unsupported(reason string) *gate.Refusal {
	return &gate.Refusal{Code: gate.RequestUnsupported, Reason: reason}
}

// checkEncoding refuses a body that another reader might decode to another
// text.
func checkEncoding(r *http.Request) *gate.Refusal {
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return &gate.Refusal{Code: gate.EncodingUnsupported, Reason: "the body must not be encoded: leave Content-Encoding out"}
		}
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if len(r.Header.Values("Content-Type")) != 1 || err != nil || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &gate.Refusal{Code: gate.EncodingUnsupported, Reason: "the body must be JSON in UTF-8"}
	}
	return nil
}

// checkOrigin keeps foreign web pages out: those of other origins, and those
// whose name was pointed at this machine (DNS rebinding: CVE-2025-66414).
func (x *exchange) checkOrigin() *gate.Refusal {
	if !loopbackNamed(x.r) {
		return &gate.Refusal{Code: gate.HostForbidden}
	}
	origins := x.r.Header.Values("Origin")
	if len(origins) == 0 {
		return nil
	}
	if len(origins) > 1 {
		return &gate.Refusal{Code: gate.OriginForbidden}
	}
	origin := origins[0]
	u, err := url.Parse(origin)
	own := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, x.r.Host)
	if !own && !x.h.origins[origin] {
		return &gate.Refusal{Code: gate.OriginForbidden}
	}
	x.origin = origin
	return nil
}

// loopbackNamed reports whether the request's Host is one that a listener on
// the loopback interface should be called by: a loopback name, or a name that
// a site of the server has. Other listeners are not judged.
func loopbackNamed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr) // of TCP, or of UDP for HTTP/3
	if !ok {
		return true
	}
	if at, err := netip.ParseAddrPort(local.String()); err != nil || !at.Addr().Unmap().IsLoopback() {
		return true
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") || net.ParseIP(name).IsLoopback() {
		return true
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && siteNamed(server.Routes, r)
}

// siteNamed reports whether a route of the server is for the request's host by
// its name.
func siteNamed(routes caddyhttp.RouteList, r *http.Request) bool {
	for _, route := range routes {
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				hosts, ok := matcher.(*caddyhttp.MatchHost)
				if !ok {
					continue
				}
				if matched, err := hosts.MatchWithError(r); err == nil && matched {
					return true
				}
			}
		}
	}
	return false
}

// ownHeaders are taken out of each request: credentials, what other parts
// would act on in ways that were not judged here, and what has been judged.
var ownHeaders = []string{
	"Authorization", "Proxy-Authorization", "Connection", "Upgrade", "Expect", "Origin", "Trailer",
	// http.Transport sends a POST twice that has one of these.
	"Idempotency-Key", "X-Idempotency-Key",
}

// cleanRequest removes what a client may not say to the server. Headers that
// it names in Connection are for this hop alone (RFC 9110, 7.6.1), and the
// proxy would remove them only after ours were set (CVE-2026-30851). So does the
// header in which a site takes keys, and what another spelling makes of a header
// that was judged: it would bring a session that was never sealed.
func cleanRequest(r *http.Request, key *credential) {
	for _, name := range hopNames(r) {
		delete(r.Header, name)
	}
	for _, name := range ownHeaders {
		r.Header.Del(name)
	}
	for name := range r.Header {
		if is := spelled(name); isIdentity(is) || is == key.base || misspelled(name, is) {
			delete(r.Header, name)
		}
	}
	r.Trailer = nil
}

var identitySpelling = strings.NewReplacer("_", "-", ".", "-")

// isIdentity reports whether a header, as spelled returns it, could be read as
// one of ours.
func isIdentity(spelled string) bool { return strings.HasPrefix(spelled, "x-farebox-") }

var errTwice = errors.New("the request had been sent once, and is not sent again")

// link is what is known of a request's way to an upstream.
type link struct {
	sent   atomic.Bool // its head went out
	secure atomic.Bool // by TLS
}

// watched returns the request with a guard: once its head went out to an
// upstream, no other attempt is made, be it by the transport or by the proxy's
// retries. A tool would run twice. The guard panics with errTwice, on the
// goroutine of the round trip. Only a POST is guarded: HTTP/2 retries requests
// without a body by itself, under a lock that a panic would leave locked, and
// nothing happens when those come twice.
func watched(r *http.Request) (*http.Request, *link) {
	l := new(link)
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { l.secure.Store(isTLS(c.Conn)) }}
	if r.Method == http.MethodPost {
		trace.GetConn = func(string) {
			if l.sent.Load() {
				panic(errTwice)
			}
		}
		trace.WroteHeaders = func() { l.sent.Store(true) }
	}
	return r.WithContext(httptrace.WithClientTrace(r.Context(), trace)), l
}

var errCredentialsLogged = errors.New("log_credentials is on for its site, which writes agents' keys into the log: take it out of the global option servers")

// logsCredentials reports whether Caddy writes the tokens of requests into its
// log.
func logsCredentials(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server.Logs != nil && server.Logs.ShouldLogCredentials
}
