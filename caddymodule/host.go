package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/caddymodule/accesslog"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/share"
)

// host connects exchanges to Caddy, the web server that they run in.
type host struct {
	h      *Handler
	record *accesslog.Record // if not nil, this record also receives the fields for the access log
}

const seenVar = "farebox.seen"

// Enter marks the request as served by Farebox, in Caddy's variables. It returns false
// if the request already has the mark.
func (*host) Enter(r *http.Request) bool {
	if caddyhttp.GetVar(r.Context(), seenVar) != nil {
		return false
	}
	caddyhttp.SetVar(r.Context(), seenVar, true)
	return true
}

// Client returns the client's address; see target.Client.
func (*host) Client(r *http.Request) netip.Addr { return target.Client(r) }

// Identify publishes the caller to placeholders and the access log.
func (c *host) Identify(r *http.Request, server, account, key string) {
	repl := replacerOf(r)
	fields := identify(repl, account, key)
	repl.Set("http.farebox.server", server)
	c.log(r, fields[0], fields[1], zap.String("farebox_server", server))
}

// identify publishes the caller to Caddy's placeholders, and returns the caller's
// fields for the access log.
func identify(repl *caddy.Replacer, account, key string) [2]zap.Field {
	repl.Set("http.auth.user.id", account)
	repl.Set("http.farebox.account", account)
	repl.Set("http.farebox.key", key)
	return [2]zap.Field{zap.String("farebox_account", account), zap.String("farebox_key", key)}
}

func replacerOf(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// IdentifyCharge publishes a charge to placeholders and the access log.
func (c *host) IdentifyCharge(r *http.Request, tool, charge string) {
	repl := replacerOf(r)
	repl.Set("http.farebox.tool", tool)
	repl.Set("http.farebox.charge", charge)
	c.log(r, zap.String("farebox_tool", tool), zap.String("farebox_charge", charge))
}

// Annotate adds a field to the access log.
func (c *host) Annotate(r *http.Request, a slog.Attr) { c.log(r, fieldOf(a)) }

func fieldOf(a slog.Attr) zap.Field {
	switch a.Value.Kind() {
	case slog.KindString:
		return zap.String(a.Key, a.Value.String())
	case slog.KindBool:
		return zap.Bool(a.Key, a.Value.Bool())
	}
	value := a.Value.Any()
	if text, ok := value.(fmt.Stringer); ok {
		return zap.Stringer(a.Key, text)
	}
	return zap.Any(a.Key, value)
}

func (c *host) log(r *http.Request, fields ...zap.Field) {
	if c.record != nil {
		c.record.Keep(fields)
	}
	accesslog.AddFields(r, fields)
}

// LogsCredentials reports whether Caddy's access log would contain keys.
func (*host) LogsCredentials(r *http.Request) bool { return accesslog.LogsCredentials(r) }

// NamesSite reports whether a route of the server matches the request's host.
func (*host) NamesSite(r *http.Request) bool {
	server := accesslog.ServerOf(r)
	return server != nil && siteNamed(server.Routes, r)
}

// siteNamed reports whether a host matcher of the routes matches the request.
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

// CountConnection counts the request's connection towards the holder's share, and
// reports whether the connection may stay open; see countConnection.
func (*host) CountConnection(r *http.Request, holder share.Holder) bool {
	return countConnection(r, holder)
}

// Status returns the status of a caddyhttp.HandlerError, or 0 for any other error.
func (*host) Status(err error) int {
	var handled caddyhttp.HandlerError
	if errors.As(err, &handled) {
		return handled.StatusCode
	}
	return 0
}

// RouteGroups returns Caddy's own map of the groups in which a route has matched.
// Caddy skips the other routes of these groups.
func (*host) RouteGroups(r *http.Request) map[string]struct{} {
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	return groups
}

// RewritesAfter reports whether a proxy behind the handler changes paths. If so,
// Farebox does not know the server's own paths, and does not follow redirects,
// because the proxy could send a redirected POST to the same path again.
func (c *host) RewritesAfter(r *http.Request) bool {
	if c.h.target != nil {
		return c.h.target.Rewrites()
	}
	server := accesslog.ServerOf(r)
	found := false
	return server != nil && rewriting(server.Routes, c.h, &found)
}

func rewriting(routes caddyhttp.RouteList, h *Handler, found *bool) bool {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				*found = *found || handler == h
			case *caddyhttp.Subroute:
				if rewriting(handler.Routes, h, found) {
					return true
				}
			case *reverseproxy.Handler:
				if *found && handler.Rewrite != nil {
					return true
				}
			}
		}
	}
	return false
}

// TrustsProxy reports whether the request came from one of Caddy's trusted
// proxies.
func (*host) TrustsProxy(r *http.Request) bool {
	return target.Trusted(r)
}

// Dialled returns the address to which the request was sent.
func (c *host) Dialled(r *http.Request) string {
	if c.h.target != nil && c.h.target.Direct() != nil {
		return c.h.target.Direct().Address()
	}
	dialled, _ := replacerOf(r).GetString("http.reverse_proxy.upstream.hostport")
	return dialled
}

// Interface guards
var _ exchange.Host = (*host)(nil)
