package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/fareboxhq/farebox/internal/weburl"
)

const (
	requestTime = 15 * time.Second // bounds each request, with its body
	maxDocument = 1 << 20          // bounds each body, in bytes
)

// newHTTPClient returns a client that follows no redirect: the response of another
// address would speak for this one, and could get a token.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: requestTime}).DialContext, TLSHandshakeTimeout: requestTime,
			ForceAttemptHTTP2: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// check returns an error unless requests may go to an address that a document names:
// https, or http to this machine. A server elsewhere must not send requests to this
// machine.
func (s *Source) check(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Errorf("%.100q is no address", address)
	case weburl.IsLoopback(u.Hostname()) && !weburl.IsLoopback(s.o.Server.Hostname()):
		return fmt.Errorf("%.100q is an address of this machine, and the server is not", address)
	case u.Scheme == "https" || u.Scheme == "http" && weburl.IsLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%.100q is not https", address)
}

// challenge is the part of WWW-Authenticate that a sign-in needs (RFC 6750, RFC 9728).
type challenge struct {
	metadata string // the URL of the resource's metadata, or ""
	scopes   []string
	err      string // such as "insufficient_scope"
}

func (c *challenge) lacksScope() bool { return c.err == insufficientScope }

const insufficientScope = "insufficient_scope"

// readChallenge reads WWW-Authenticate headers. Those that cannot be read are left out.
func readChallenge(headers []string) (c challenge) {
	for _, header := range headers {
		all, err := oauthex.ParseWWWAuthenticate([]string{header})
		if err != nil {
			continue
		}
		for _, one := range all {
			if one.Scheme != "bearer" {
				continue
			}
			c.metadata, c.err = one.Params["resource_metadata"], one.Params["error"]
			c.scopes = strings.Fields(one.Params["scope"])
			return c
		}
	}
	return c
}

// probe asks the server without a token, and returns its challenge.
func (s *Source) probe(ctx context.Context) (challenge, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		return challenge{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := s.http.Do(r)
	if err != nil {
		return challenge{}, fmt.Errorf("the server at %s cannot be reached: %w", s.shown(), weburl.Cause(err))
	}
	defer resp.Body.Close()
	return readChallenge(resp.Header.Values("WWW-Authenticate")), nil
}

// shown returns the server's URL for messages, without its query, which may have a
// secret.
func (s *Source) shown() string {
	return s.o.Server.Scheme + "://" + s.o.Server.Host + s.o.Server.EscapedPath()
}

// target is the authorization server of the MCP server.
type target struct {
	resource string
	scopes   []string // the scopes that the resource's metadata name
	server   *oauthex.AuthServerMeta
}

// discover finds the authorization server.
func (s *Source) discover(ctx context.Context, c challenge) (*target, error) {
	m, err := s.resource(ctx, c)
	if err != nil {
		return nil, err
	}
	issuer := m.AuthorizationServers[0]
	if err := s.check(issuer); err != nil {
		return nil, fmt.Errorf("the server names an authorization server that cannot be used: %w", err)
	}
	as, err := auth.GetAuthServerMetadata(ctx, issuer, s.http)
	if err != nil {
		return nil, fmt.Errorf("the metadata of the authorization server %s cannot be used: %w", issuer, weburl.Cause(err))
	}
	if as == nil {
		return nil, fmt.Errorf("the authorization server %s has no metadata", issuer)
	}
	if !slices.Contains(as.CodeChallengeMethodsSupported, "S256") || as.AuthorizationEndpoint == "" || as.TokenEndpoint == "" {
		return nil, fmt.Errorf("the authorization server %s has no flow with a browser and PKCE (S256)", issuer)
	}
	for _, endpoint := range []string{as.AuthorizationEndpoint, as.TokenEndpoint, as.RegistrationEndpoint, as.RevocationEndpoint} {
		if endpoint == "" {
			continue
		}
		if err := s.check(endpoint); err != nil {
			return nil, fmt.Errorf("the authorization server %s names an endpoint that cannot be used: %w", issuer, err)
		}
	}
	return &target{resource: m.Resource, scopes: m.ScopesSupported, server: as}, nil
}

// resource gets the metadata of the MCP server: from the place that its challenge names,
// otherwise from the usual ones (RFC 9728, section 3.1).
func (s *Source) resource(ctx context.Context, c challenge) (*oauthex.ProtectedResourceMetadata, error) {
	places := []string{c.metadata}
	if c.metadata == "" {
		places = s.wellKnown()
	}
	var failed error
	for _, place := range places {
		var m oauthex.ProtectedResourceMetadata
		err := s.check(place)
		if err == nil {
			err = s.getJSON(ctx, place, &m)
		}
		switch {
		case err != nil:
			failed = fmt.Errorf("%s: %w", place, err)
		case !covers(m.Resource, s.o.Server):
			failed = fmt.Errorf("%s: these are the metadata of %.200q", place, m.Resource)
		case len(m.AuthorizationServers) == 0:
			failed = fmt.Errorf("%s: no authorization server is named", place)
		default:
			return &m, nil
		}
	}
	return nil, fmt.Errorf("the server requires a token, and its metadata lead to no sign-in: %w", failed)
}

// wellKnown returns the places where a server without a challenge has its metadata.
func (s *Source) wellKnown() []string {
	const place = "/.well-known/oauth-protected-resource"
	root := url.URL{Scheme: s.o.Server.Scheme, Host: s.o.Server.Host, Path: place}
	path := strings.Trim(s.o.Server.Path, "/")
	if path == "" {
		return []string{root.String()}
	}
	own := root
	own.Path = place + s.o.Server.Path
	return []string{own.String(), root.String()}
}

// covers reports whether a resource is the server, or a part of its origin that contains
// the server: many servers name their whole origin. A token for another origin would not
// be for this server.
func covers(resource string, server *url.URL) bool {
	u, err := url.Parse(resource)
	if err != nil || u.User != nil || u.Fragment != "" || u.Scheme != server.Scheme || !strings.EqualFold(u.Host, server.Host) {
		return false
	}
	outer, inner := strings.TrimSuffix(u.EscapedPath(), "/")+"/", strings.TrimSuffix(server.EscapedPath(), "/")+"/"
	return strings.HasPrefix(inner, outer) && (u.RawQuery == "" || u.RawQuery == server.RawQuery)
}

// getJSON gets a JSON document.
func (s *Source) getJSON(ctx context.Context, address string, document any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("it is no address")
	}
	r.Header.Set("Accept", "application/json")
	resp, err := s.http.Do(r)
	if err != nil {
		return weburl.Cause(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return weburl.Cause(err)
	}
	if json.Unmarshal(body, document) != nil {
		return errors.New("it is not JSON, or more than 1 MiB of it")
	}
	return nil
}
