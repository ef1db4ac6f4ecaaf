package exchange

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

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
)

// runNext calls the next handler and returns its failure as a refusal. It follows
// one redirect to another path of the same server. The redirect must leave the
// request as it is (RFC 9110, 15.4.8 and 15.4.9), and no byte may have reached w
// yet. To follow the redirect, runNext calls the next handler again for the new
// path. So a redirect can lead only to servers that the site's config names.
func (x *Exchange) runNext(w http.ResponseWriter, r *http.Request) *gate.Refusal {
	asked, groups := *r.URL, x.host.RouteGroups(r)
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
	clear(header) // drop the header of the redirect
	maps.Copy(header, x.base)
	maps.DeleteFunc(groups, func(group string, _ struct{}) bool { return !slices.Contains(before, group) })
	*r.URL = *target // changes the request's URL in place, because placeholders read it, too
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

// follow returns the URL for the second call of the next handler, or the reason not
// to follow the redirect.
func (x *Exchange) follow(r *http.Request, asked *url.URL, moved *intercept.Moved, secure bool) (*url.URL, error) {
	switch {
	case moved.Status != http.StatusTemporaryRedirect && moved.Status != http.StatusPermanentRedirect:
		return nil, errors.New("only 307 and 308 say that the request stays the same")
	case len(moved.Location) != 1:
		return nil, errors.New("it does not name one Location")
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case *r.URL != *asked || x.host.RewritesAfter(r):
		return nil, errors.New("the path is rewritten behind this handler, so the target of the redirect cannot be judged")
	case !isNormal(asked.Path):
		return nil, errors.New("the path that was asked for is not in its normal form")
	}
	target, err := url.Parse(moved.Location[0])
	if err != nil {
		return nil, errors.New("its Location cannot be read")
	}
	if target.Host == "" && (target.Scheme != "" || target.Opaque != "") || target.User != nil {
		return nil, errors.New("its Location is not the URL of a server")
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

// isNormal reports whether path.Clean leaves the path unchanged, apart from a trailing
// slash. Servers write paths in this form. A server may redirect any other path, such
// as /mcp/../admin, to its cleaned form, so the client could choose where the redirect
// leads.
func isNormal(p string) bool { return path.Clean(p) == p || path.Clean(p)+"/" == p }

// sameServer reports whether a redirect's target has the host and the scheme by
// which the server was called. Host and scheme may be those of the client's
// request, because the proxy passes them on, or those of the proxy's connection to
// the server.
func (x *Exchange) sameServer(r *http.Request, target *url.URL, secure bool) bool {
	hop, client := "http", "http"
	if secure {
		hop = "https"
	}
	if r.TLS != nil {
		client = "https"
	}
	if x.host.TrustsProxy(r) {
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
	return scheme == hop && sameHost(target.Host, x.host.Dialled(r), scheme)
}

func sameHost(a, b, scheme string) bool {
	return b != "" && strings.EqualFold(withPort(a, scheme), withPort(b, scheme))
}

// withPort adds the default port of the scheme if host has no port.
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

// notFollowed returns the refusal for a redirect that ends the request. The client
// sees only the path of the target, because the server's address is for the
// operator.
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

// isTLS reports whether a connection uses TLS.
func isTLS(conn net.Conn) bool {
	_, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	return ok
}
