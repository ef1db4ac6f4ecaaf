package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/keys"
)

// OAuth is the protected resource metadata of a server (RFC 9728), which clients
// read before they have a token and `farebox_metadata` serves. Tokens from the
// authorization servers are not accepted yet.
type OAuth struct {
	// The public URL of the MCP endpoint, exactly as clients get it. It never comes
	// from a request, because the client chooses a request's host. Required.
	Resource string `json:"resource,omitempty"`

	// The issuers of tokens for this server. At least one.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`

	// The scopes in the metadata. Default: the declared scopes that the server's
	// rules and `require` name.
	Scopes []string `json:"scopes,omitempty"`

	// The server's name, for people.
	Name string `json:"name,omitempty"`

	// A page about the server, for developers.
	Documentation string `json:"documentation,omitempty"`
}

// offlineAccess asks an authorization server for a refresh token. It is between
// that and the client; no resource needs it (MCP 2026-07-28, authorization).
const offlineAccess = "offline_access"

// resource is the server of a handler as OAuth knows it. It never changes.
type resource struct {
	server string
	config *OAuth
	origin string   // scheme, host and port
	host   string   // host and port
	path   string   // as it is written in URLs, without a trailing slash
	plain  string   // the same, decoded, as requests are compared
	slash  bool     // the configured form ends with a slash
	scopes []string // scopes_supported
	needs  []string // the scopes of a 401
}

// identifier returns the resource identifier, with or without a trailing slash.
func (r *resource) identifier(slash bool) string { return r.origin + ended(r.path, slash) }

// metadataURL returns where the metadata of that form of the identifier is
// (RFC 9728, 3.1).
func (r *resource) metadataURL(slash bool) string {
	return r.origin + wellKnownResource + ended(r.path, slash)
}

// asked returns the form by which a request has called the resource. It is the
// configured form at the root, where a request's path is never empty, and behind a
// proxy that has changed the path.
func (r *resource) asked(req *http.Request) (slash bool) {
	called := req.URL.Path
	if original, ok := req.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		called = original.URL.Path
	}
	switch {
	case r.plain == "":
		return r.slash
	case called == r.plain:
		return false
	case called == r.plain+"/":
		return true
	}
	return r.slash
}

func ended(path string, slash bool) string {
	if slash {
		return path + "/"
	}
	return path
}

// compileOAuth checks the OAuth config. The rights must have been compiled.
func (h *Handler) compileOAuth(declared *keys.Catalogue) error {
	if h.OAuth == nil {
		return nil
	}
	if err := h.OAuth.check(declared); err != nil {
		return fmt.Errorf("oauth: %w", err)
	}
	u, err := url.Parse(h.OAuth.Resource)
	if err != nil {
		return err // check has parsed it
	}
	r := &resource{
		server: h.Server, config: h.OAuth, origin: u.Scheme + "://" + u.Host, host: u.Host,
		path: strings.TrimSuffix(u.EscapedPath(), "/"), plain: strings.TrimSuffix(u.Path, "/"), slash: strings.HasSuffix(u.Path, "/"),
		scopes: h.OAuth.Scopes, needs: h.rights.Required(),
	}
	if len(r.scopes) == 0 {
		r.scopes = h.rights.Named()
	}
	if len(r.needs) == 0 {
		r.needs = declared.Default()
	}
	isOffline := func(scope string) bool { return scope == offlineAccess }
	r.scopes = slices.DeleteFunc(slices.Clone(r.scopes), isOffline)
	r.needs = slices.DeleteFunc(r.needs, isOffline)
	h.resource = r
	return nil
}

// check checks all of it.
func (o *OAuth) check(declared *keys.Catalogue) error {
	if o.Resource == "" {
		return errors.New("want a resource: the public URL of the MCP endpoint, as clients are given it")
	}
	if len(o.AuthorizationServers) == 0 {
		return errors.New("want authorization_servers: the URL of one or more")
	}
	return cmp.Or(o.checkResource(), o.checkServers(), o.checkScopes(declared), o.checkDocumentation())
}

func (o *OAuth) checkResource() error {
	if err := checkIdentifier(o.Resource); err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	return nil
}

func (o *OAuth) checkServers() error {
	for i, server := range o.AuthorizationServers {
		if err := checkIdentifier(server); err != nil {
			return fmt.Errorf("authorization_servers: %w", err)
		}
		if slices.Contains(o.AuthorizationServers[:i], server) {
			return fmt.Errorf("authorization_servers: %s is named twice", server)
		}
	}
	return nil
}

func (o *OAuth) checkScopes(declared *keys.Catalogue) error {
	if slices.Contains(o.Scopes, offlineAccess) {
		return fmt.Errorf("scopes: %s is between clients and authorization servers: leave it out", offlineAccess)
	}
	if err := declared.Check(o.Scopes, false); err != nil {
		return fmt.Errorf("scopes: %w", err)
	}
	return nil
}

func (o *OAuth) checkDocumentation() error {
	if o.Documentation == "" {
		return nil
	}
	if _, err := checkLink(o.Documentation); err != nil {
		return fmt.Errorf("documentation: %w", err)
	}
	return nil
}

// checkLink checks a URL that strangers are sent to.
func checkLink(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "":
		return nil, errors.New("want a URL with a scheme and a host, as https://mcp.example.com/weather/mcp")
	case u.User != nil:
		return nil, fmt.Errorf("%s is shown to everybody: leave the user out", u.Redacted())
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, fmt.Errorf("%s: want https; http is for loopback hosts alone", text)
	}
	return u, nil
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// checkIdentifier checks a URL that clients compare with others character by
// character: there must be one way to write it.
func checkIdentifier(text string) error {
	u, err := checkLink(text)
	if err != nil {
		return err
	}
	defaultPort := u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80"
	switch {
	case strings.Contains(text, "#"):
		return fmt.Errorf("%s: leave the fragment out", text)
	case strings.Contains(text, "?"):
		return fmt.Errorf("%s: leave the query out", text)
	case u.Host != strings.ToLower(u.Host) || defaultPort || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("%s: write the host in lower case, without the usual port", text)
	case u.Path != "" && u.Path != "/" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"):
		return fmt.Errorf("%s: write the path without '.', '..' and empty segments", text)
	case u.RawPath != "" || u.String() != text:
		return fmt.Errorf("%s is not in its normal form (RFC 3986, 6.2.2)", text)
	}
	return nil
}

// sameURL reports whether two resources are asked for by one URL.
func (r *resource) sameURL(other *resource) bool {
	return r.host == other.host && r.plain == other.plain
}

// agrees returns an error if two resources have one URL and different metadata.
func (r *resource) agrees(other *resource) error {
	if r == nil || other == nil || !r.sameURL(other) {
		return nil
	}
	if r.server != other.server {
		return fmt.Errorf("oauth: the resource %s is configured for the servers %q and %q", r.config.Resource, other.server, r.server)
	}
	if !reflect.DeepEqual(r.config, other.config) {
		return fmt.Errorf("oauth: the resource %s of server %q is configured twice, with different contents", r.config.Resource, r.server)
	}
	return nil
}

// parseOAuth reads the block of oauth. Errors name their line.
func (h *Handler) parseOAuth(declared *keys.Catalogue) func(d *caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		here := *d
		if d.NextArg() {
			return d.Errf("oauth takes a block and no arguments, not %q", d.Val())
		}
		o := new(OAuth)
		one := func(into *string, check func() error) func(d *caddyfile.Dispenser) error {
			return func(d *caddyfile.Dispenser) error {
				if err := oneArg(d, into); err != nil {
					return err
				}
				return wrapped(d, check())
			}
		}
		some := func(into *[]string, check func() error) func(d *caddyfile.Dispenser) error {
			return func(d *caddyfile.Dispenser) error {
				if err := someArgs(d, into); err != nil {
					return err
				}
				return wrapped(d, check())
			}
		}
		err := parseBlock(d, "oauth", subdirectives{
			"resource":              one(&o.Resource, o.checkResource),
			"authorization_servers": some(&o.AuthorizationServers, o.checkServers),
			"scopes":                some(&o.Scopes, func() error { return o.checkScopes(declared) }),
			"name":                  func(d *caddyfile.Dispenser) error { return oneArg(d, &o.Name) },
			"documentation":         one(&o.Documentation, o.checkDocumentation),
		})
		if err != nil {
			return err
		}
		h.OAuth = o
		return wrapped(&here, o.check(declared))
	}
}

// wrapped adds the dispenser's line to an error.
func wrapped(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.Errf("oauth: %v", err)
}
