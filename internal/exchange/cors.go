package exchange

import (
	"net/http"
	"net/textproto"
	"strings"
)

const (
	allowedMethods = "POST, GET, DELETE, OPTIONS"
	allowedHeaders = "Authorization, Content-Type, Accept, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID, Idempotency-Key"
	exposedHeaders = "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Farebox-Key-Expires, X-Farebox-Error"
)

// preflight answers the CORS preflight that a browser sends before a web page's
// request. A preflight carries no credentials and never reaches the server.
func (x *Exchange) preflight() {
	h := x.w.Header()
	x.head(h)
	h.Set("Allow", allowedMethods)
	if x.origin != "" {
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", x.allowedHeaders())
		h.Add("Vary", "Access-Control-Request-Headers")
		h.Set("Access-Control-Max-Age", "600")
	}
	x.count("allowed")
	x.w.WriteHeader(http.StatusNoContent)
}

// allowOrigin lets a web page of an allowed origin read the response. The
// upstream's own CORS headers are dropped, because the gateway decides about
// origins.
func (x *Exchange) allowOrigin(h http.Header) {
	h.Del("Access-Control-Allow-Credentials")
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Expose-Headers")
	if x.origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", x.origin)
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
	h.Add("Vary", "Origin")
}

// maxAskedHeaders limits how many requested headers a preflight allows.
const maxAskedHeaders = 64

// paramHeader is the prefix of the headers that carry a tool call's arguments (MCP
// 2026-07-28, Streamable HTTP, x-mcp-header).
const paramHeader = "mcp-param-"

// allowedHeaders returns the headers that a web page may send: those of MCP, the
// site's header for keys, and up to maxAskedHeaders of the requested headers that
// begin with paramHeader.
func (x *Exchange) allowedHeaders() string {
	allowed := allowedHeaders
	if x.site.KeyHeader.IsSet() {
		allowed += ", " + x.site.KeyHeader.name
	}
	count := 0
	for _, list := range x.r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(textproto.TrimString(name))
			rest, ok := strings.CutPrefix(name, paramHeader)
			if ok && rest != "" && isToken(rest) && count < maxAskedHeaders {
				allowed += ", " + name
				count++
			}
		}
	}
	return allowed
}

// isToken reports whether a text is valid as the name of a header (RFC 9110,
// 5.6.2).
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}
