package exchange

import (
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/fareboxhq/farebox/internal/share"
)

// Host is the web server that an exchange runs in.
type Host interface {
	// Enter marks the request as served by Farebox. It returns false if the request has
	// the mark already.
	Enter(*http.Request) bool
	// Client returns the address of the client behind trusted proxies, or the zero
	// Addr if the address is unknown.
	Client(*http.Request) netip.Addr
	// Identify publishes the caller to placeholders and the access log.
	Identify(r *http.Request, server, account, key string)
	// IdentifyCharge publishes a charge to placeholders and the access log.
	IdentifyCharge(r *http.Request, tool, charge string)
	// Annotate adds a field to the request's record in the access log.
	Annotate(*http.Request, slog.Attr)
	// LogsCredentials reports whether the access log would contain keys.
	LogsCredentials(*http.Request) bool
	// NamesSite reports whether the config has a site with the request's host name.
	NamesSite(*http.Request) bool
	// CountConnection counts the request's connection towards the holder's share, and
	// reports whether the connection may stay open after the response.
	CountConnection(*http.Request, share.Holder) bool
	// Status returns the HTTP status that an error of the next handler carries,
	// 0 for none.
	Status(error) int

	Router
}

// Router is the part of a Host that redirects need.
type Router interface {
	// RouteGroups returns the groups of routes that have matched the request.
	// Deleting a group lets its routes match again.
	RouteGroups(*http.Request) map[string]struct{}
	// RewritesAfter reports whether a proxy behind this handler changes paths.
	RewritesAfter(*http.Request) bool
	// TrustsProxy reports whether the request came from a trusted proxy.
	TrustsProxy(*http.Request) bool
	// Dialled returns the host and port of the upstream that the proxy used.
	Dialled(*http.Request) string
}

// Upstream is the MCP server, for a site that sends its requests to the server itself.
type Upstream interface {
	// Send sends a request with the body, at most once, and writes the response to w.
	// It does not read the body of r. An error after WriteHeader means that the
	// response is incomplete. The error wraps that of the request's context if the
	// context has ended.
	Send(w http.ResponseWriter, r *http.Request, body []byte) error
}

// Next is the handler behind an exchange.
type Next interface {
	ServeHTTP(http.ResponseWriter, *http.Request) error
}
