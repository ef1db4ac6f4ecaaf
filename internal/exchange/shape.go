package exchange

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/hop"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// ErrCredentialsLogged reports a site that writes keys into its access log.
var ErrCredentialsLogged = errors.New("log_credentials is on for its site, which writes agents' keys into the log: take it out of the global option servers")

// checkShape refuses requests that do not have the shape of MCP's streamable HTTP.
// It also refuses to switch protocols, because that would bypass every check.
func (x *Exchange) checkShape() *gate.Refusal {
	if x.host.LogsCredentials(x.r) {
		return &gate.Refusal{Code: gate.Misconfigured, Cause: ErrCredentialsLogged}
	}
	return checkShape(x.r)
}

func checkShape(r *http.Request) *gate.Refusal {
	for name := range r.Header {
		var short [maxSpelled]byte
		switch string(appendSpelled(short[:0], name)) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			return unsupported("headers that override the method are not allowed")
		case "upgrade", ":protocol":
			return unsupported("a connection cannot be upgraded here")
		}
	}
	for _, name := range hop.Names(r.Header) {
		if slices.Contains(judged, name) || strings.HasPrefix(name, "Mcp-") {
			return unsupported("the header " + name + " cannot be for this hop alone")
		}
	}
	if len(r.Header.Values("Mcp-Session-Id")) > 1 {
		return unsupported("a request belongs to one session: there is more than one Mcp-Session-Id header")
	}
	// The content of a GET or DELETE has no meaning (RFC 9110, 9.3.1). As long as
	// the content is unread, net/http does not notice that the client leaves, so
	// the client's stream would stay open.
	if r.Method != http.MethodPost && r.Method != http.MethodOptions && r.ContentLength != 0 {
		return unsupported("only a POST has a body")
	}
	switch r.Method {
	case http.MethodPost:
		media, _, err := mcp.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || media != mcp.TypeJSON {
			return &gate.Refusal{Code: gate.MediaUnsupported}
		}
		return checkEncoding(r)
	case http.MethodGet:
		if !acceptsEvents(r.Header.Values("Accept")) {
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

// acceptsEvents reports whether the sender of a GET can read an event stream. Clients that
// look for the authorization server often send "*/*" or no Accept header, which accepts
// everything (RFC 9110, section 12.5.1). Web browsers send that, too, after text/html, and
// would show an endless page.
func acceptsEvents(accept []string) bool {
	text := strings.ToLower(strings.Join(accept, ","))
	switch {
	case text == "" || strings.Contains(text, mcp.TypeEvents):
		return true
	case strings.Contains(text, "text/html"):
		return false
	default:
		return strings.Contains(text, "*/*") || strings.Contains(text, "text/*")
	}
}

// judged lists the headers that decide how a request is treated. Dropping one of them
// on the way would change the meaning of the request.
var judged = []string{"Authorization", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Accept", "Origin", "Host"}

// spelledOnce lists headers that are forwarded in one spelling only: the spelling in
// which this package checked or set them. The keys of the map are names as spelled()
// returns them.
var spelledOnce = map[string]bool{
	"mcp-session-id": true, "last-event-id": true, "mcp-protocol-version": true, "mcp-method": true, "mcp-name": true,
	"content-type": true, "content-encoding": true, "content-length": true, "transfer-encoding": true,
}

// misspelled reports whether a header is one of spelledOnce in another spelling.
// Some servers (CGI, WSGI) take both spellings for the same header.
func misspelled(name, spelled string) bool {
	return spelledOnce[spelled] && !strings.EqualFold(name, spelled)
}

func unsupported(reason string) *gate.Refusal {
	return &gate.Refusal{Code: gate.RequestUnsupported, Reason: reason}
}

// checkEncoding refuses a body that the server might decode differently.
func checkEncoding(r *http.Request) *gate.Refusal {
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return &gate.Refusal{Code: gate.EncodingUnsupported, Reason: "the body must not be encoded: leave Content-Encoding out"}
		}
	}
	_, params, err := mcp.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if len(r.Header.Values("Content-Type")) != 1 || err != nil || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &gate.Refusal{Code: gate.EncodingUnsupported, Reason: "the body must be JSON in UTF-8"}
	}
	return nil
}

// checkOrigin refuses requests from foreign web pages. These are pages of other
// origins, and pages with a host name that was pointed at this machine (DNS
// rebinding, CVE-2025-66414).
func (x *Exchange) checkOrigin() *gate.Refusal {
	if !x.loopbackNamed() {
		return &gate.Refusal{Code: gate.HostForbidden}
	}
	pages := x.r.Header.Values("Origin")
	if len(pages) == 0 {
		return nil
	}
	if len(pages) > 1 {
		return &gate.Refusal{Code: gate.OriginForbidden}
	}
	page := pages[0]
	u, err := url.Parse(page)
	own := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, x.r.Host)
	if !own && !x.site.Origins[page] {
		return &gate.Refusal{Code: gate.OriginForbidden}
	}
	x.origin = page
	return nil
}

// loopbackNamed reports whether the Host header fits the listener. On the loopback
// interface it must be a loopback name or the name of a site. On other interfaces
// any name fits.
func (x *Exchange) loopbackNamed() bool {
	local, ok := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr) // a TCP address, or a UDP address for HTTP/3
	if !ok {
		return true
	}
	if at, err := netip.ParseAddrPort(local.String()); err != nil || !at.Addr().Unmap().IsLoopback() {
		return true
	}
	name := x.r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	return strings.EqualFold(name, "localhost") || net.ParseIP(name).IsLoopback() || x.host.NamesSite(x.r)
}

// ownHeaders lists the headers that are removed from each request. There are three
// kinds: credentials, headers on which the proxy or the server would act without a
// check here, and headers that have been checked.
var ownHeaders = []string{
	"Authorization", "Proxy-Authorization", "Connection", "Upgrade", "Expect", "Origin", "Trailer",
	// http.Transport may send a POST with one of these headers twice.
	"Idempotency-Key", "X-Idempotency-Key",
}

// cleanRequest removes headers that a client must not send to the server. It
// removes the headers named in Connection, because the proxy would do so only after
// our own headers were set (CVE-2026-30851). It removes the site's header for keys.
// It also removes other spellings of checked headers, because they could contain a
// session id that was never sealed.
func cleanRequest(r *http.Request, key *KeyHeader) {
	for _, name := range hop.Names(r.Header) {
		delete(r.Header, name)
	}
	for _, name := range ownHeaders {
		r.Header.Del(name)
	}
	for name := range r.Header {
		var short [maxSpelled]byte
		if is := string(appendSpelled(short[:0], name)); isIdentity(is) || is == key.spelled || misspelled(name, is) {
			delete(r.Header, name)
		}
	}
	r.Trailer = nil
}

var identitySpelling = strings.NewReplacer("_", "-", ".", "-")

// spelled returns one form for all spellings of a header's name, because some
// servers treat '_' and '.' as '-'.
func spelled(name string) string { return string(appendSpelled(nil, name)) }

// maxSpelled is the length of the longest name that spelled converts without allocating
// memory.
const maxSpelled = 32

// appendSpelled appends the form that spelled returns.
func appendSpelled(b []byte, name string) []byte {
	from := len(b)
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_' || c == '.':
			c = '-'
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c >= utf8.RuneSelf: // the lower case of a letter outside ASCII can be an ASCII letter (the Kelvin sign: k)
			return append(b[:from], identitySpelling.Replace(strings.ToLower(name))...)
		}
		b = append(b, c)
	}
	return b
}

// isIdentity reports whether a header's name, in the form that spelled() returns, could
// be read as one of our identity headers.
func isIdentity(spelled string) bool { return strings.HasPrefix(spelled, "x-farebox-") }

var errTwice = errors.New("the request had been sent once, and is not sent again")

// link is the state of a request's connection to an upstream.
type link struct {
	sent   atomic.Bool // the request's head was sent
	secure atomic.Bool // the connection uses TLS
}

// sendOnce returns the request with a guard. After the head of the request was sent
// to an upstream, neither the transport nor the proxy's retries may send the request
// again, because a tool would run twice. The guard panics with errTwice, on the
// goroutine of the round trip. Only a POST is guarded. HTTP/2 itself retries
// requests without a body, under a lock that a panic would leave locked, and sending
// such a request twice does no harm.
func sendOnce(r *http.Request) (*http.Request, *link) {
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
