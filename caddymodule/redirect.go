package caddymodule

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
)

// run has the next handler serve the request, and returns what went wrong as a
// refusal. A redirect to another path of the same server (RFC 9110, 15.4.8 and
// 15.4.9: the request stays what it is) is followed once, before anything of it
// reached w. It is the next handler that is called again, so that no redirect leads
// to a place where the site's config does not.
func (x *exchange) run(w http.ResponseWriter, r *http.Request) *gate.Refusal {
	asked, groups := *r.URL, groupsOf(r)
	before := make([]string, 0, 4)
	for group := range groups {
		before = append(before, group)
	}
	moved, secure, failure := x.attempt(w, r)
	if moved == nil {
		return failure
	}
	target, err := x.follow(r, &asked, moved, secure)
	if err != nil {
		return notFollowed(moved, err)
	}
	header := w.Header()
	clear(header) // of the redirect's head
	maps.Copy(header, x.base)
	maps.DeleteFunc(groups, func(group string, _ struct{}) bool { return !slices.Contains(before, group) })
	*r.URL = *target // where placeholders look, too
	again := r.WithContext(r.Context())
	again.RequestURI = target.RequestURI()
	if x.body != nil {
		again.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	moved, _, failure = x.attempt(w, again)
	if moved == nil {
		return failure
	}
	return notFollowed(moved, errors.New("a redirect was followed before"))
}

// groupsOf returns the groups of routes of which one has matched: of each, Caddy
// has the others skipped. Those that matched behind this handler are to match again
// when it calls the next one again.
func groupsOf(r *http.Request) map[string]struct{} {
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	return groups
}

// follow returns the URL at which next is to be called again, or why it is not.
func (x *exchange) follow(r *http.Request, asked *url.URL, moved *intercept.Moved, secure bool) (*url.URL, error) {
	switch {
	case moved.Status != http.StatusTemporaryRedirect && moved.Status != http.StatusPermanentRedirect:
		return nil, errors.New("only 307 and 308 say that the request stays the same")
	case len(moved.Location) != 1:
		return nil, errors.New("it does not name one Location")
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case *r.URL != *asked || rewritesAfter(r, x.h):
		return nil, errors.New("the path is rewritten behind this handler, so that it cannot be told where this is")
	case !tidy(asked.Path):
		return nil, errors.New("the path that was asked for is not in its normal form")
	}
	target, err := url.Parse(moved.Location[0])
	if err != nil {
		return nil, errors.New("its Location cannot be read")
	}
	if target.Host == "" && (target.Scheme != "" || target.Opaque != "") || target.User != nil {
		return nil, errors.New("its Location is none of a server's")
	}
	if target.Host != "" && !x.sameServer(r, target, secure) {
		return nil, errors.New("it leads to another host or scheme")
	}
	if target.Host != "" && target.Path == "" {
		target.Path = "/"
	}
	target = asked.ResolveReference(&url.URL{Path: target.Path, RawPath: target.RawPath, RawQuery: target.RawQuery})
	if target.EscapedPath() == asked.EscapedPath() && target.RawQuery == asked.RawQuery {
		return nil, errors.New("it leads to where it comes from")
	}
	return target, nil
}

// tidy reports whether a path is as a server would write it. In another form it
// could be the client who chooses where a redirect leads.
func tidy(p string) bool { return path.Clean(p) == p || path.Clean(p)+"/" == p }

// sameServer reports whether the host and the scheme are those by which the server
// was called: what the client has asked for, which the proxy passes on, or the
// address that it dialled.
func (x *exchange) sameServer(r *http.Request, target *url.URL, secure bool) bool {
	hop, client := "http", "http"
	if secure {
		hop = "https"
	}
	if r.TLS != nil {
		client = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" {
			client = proto
		}
	}
	scheme := target.Scheme
	if scheme == "" {
		scheme = hop
	}
	if sameHost(target.Host, r.Host, scheme) {
		return scheme == hop || scheme == client
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	dialled, _ := repl.GetString("http.reverse_proxy.upstream.hostport")
	return scheme == hop && sameHost(target.Host, dialled, scheme)
}

func sameHost(a, b, scheme string) bool {
	return b != "" && strings.EqualFold(withPort(a, scheme), withPort(b, scheme))
}

// withPort writes the usual port of the scheme where none is named.
func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// rewritesAfter reports whether a proxy behind the handler changes paths on its
// way: then the server's are not the ones that are known here, and a POST that
// follows a redirect could come to the same place again.
func rewritesAfter(r *http.Request, h *Handler) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return false
	}
	found := false
	return rewriting(server.Routes, h, &found)
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

// notFollowed says that a redirect ends the request. The client is told of its path
// alone: the address of the server is the operator's affair.
func notFollowed(moved *intercept.Moved, why error) *gate.Refusal {
	reason := fmt.Sprintf("The MCP server answered with a redirect (%d), which was not followed", moved.Status)
	location := strings.Join(moved.Location, ", ")
	if target, err := url.Parse(location); err == nil && target.Host == "" && target.Path != "" {
		reason = fmt.Sprintf("The MCP server answered with a redirect (%d) to %s, which was not followed", moved.Status, target.EscapedPath())
	}
	return &gate.Refusal{
		Code: gate.UpstreamFailed, Reason: reason + "; nothing was charged",
		Cause: fmt.Errorf("it answered with status %d and the Location %q: %w", moved.Status, location, why),
	}
}

// isTLS reports whether a connection is one of TLS.
func isTLS(conn net.Conn) bool {
	_, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	return ok
}
