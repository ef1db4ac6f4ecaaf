// Package resource treats the MCP servers of a config as OAuth 2.0 protected
// resources. It has the config of these resources, and serves their metadata (RFC
// 9728).
package resource

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/keys"
)

// OAuth is the protected resource metadata of a server (RFC 9728). The handler
// `farebox_metadata` serves the metadata. Clients read it before they have a token.
// Tokens from the authorization servers are not accepted yet.
type OAuth struct {
	// The public URL of the MCP endpoint, exactly as it is given to clients. It is
	// never taken from a request, because clients choose the host of their requests.
	// Required.
	Resource string `json:"resource,omitempty"`

	// The issuers of tokens for this server. Default: the gateway's own issuer for this
	// server, which the handler `farebox_oauth` serves.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`

	// The scopes in the metadata. Default: those scopes declared in the global option
	// `farebox` that the server's rules and its option `require` name.
	Scopes []string `json:"scopes,omitempty"`

	// The server's name, for people.
	Name string `json:"name,omitempty"`

	// A page about the server, for developers.
	Documentation string `json:"documentation,omitempty"`
}

// offlineAccess is the scope by which a client asks its authorization server for a
// refresh token. The scope does not concern the resource, so the metadata never names
// the scope (MCP 2026-07-28, authorization).
const offlineAccess = "offline_access"

// Compile checks the config of a server and returns its resource. All scopes in the
// config must be in declared. The last two arguments are the scopes that the server's
// rules name, and the scopes that a key needs for items without a rule.
func (o *OAuth) Compile(server string, declared *keys.Catalogue, named, required []string) (*Resource, error) {
	if err := o.check(declared); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	u, err := url.Parse(o.Resource)
	if err != nil {
		return nil, err // cannot happen: check has already parsed this URL
	}
	r := &Resource{
		server: server, config: o, origin: u.Scheme + "://" + u.Host, host: u.Host,
		path: strings.TrimSuffix(u.EscapedPath(), "/"), plain: strings.TrimSuffix(u.Path, "/"), slash: strings.HasSuffix(u.Path, "/"),
		scopes: o.Scopes, needs: slices.Clone(required), servers: o.AuthorizationServers,
	}
	if r.Own() {
		r.servers = []string{r.Issuer()}
	}
	if len(r.scopes) == 0 {
		r.scopes = named
	}
	if len(r.needs) == 0 {
		r.needs = slices.Clone(declared.Default())
	}
	isOffline := func(scope string) bool { return scope == offlineAccess }
	r.scopes = slices.DeleteFunc(slices.Clone(r.scopes), isOffline)
	r.needs = slices.DeleteFunc(r.needs, isOffline)
	return r, nil
}

// check checks the whole config.
func (o *OAuth) check(declared *keys.Catalogue) error {
	if o.Resource == "" {
		return errors.New("want a resource: the public URL of the MCP endpoint, as clients are given it")
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
	if _, err := CheckLink(o.Documentation); err != nil {
		return fmt.Errorf("documentation: %w", err)
	}
	return nil
}

// CheckLink parses a URL that Farebox shows to strangers. It must be https, or http
// at a loopback host, and must not contain a user.
func CheckLink(text string) (*url.URL, error) {
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

// checkIdentifier checks a URL that clients compare character by character. There
// must be only one way to write such a URL, so it must be in its normal form.
func checkIdentifier(text string) error {
	u, err := CheckLink(text)
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
