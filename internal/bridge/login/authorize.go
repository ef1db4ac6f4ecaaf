package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"

	"github.com/fareboxhq/farebox/internal/bridge/tokens"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// clientName is shown on the consent page.
const clientName = "Farebox connect"

// offlineAccess is the scope by which some authorization servers give refresh tokens.
const offlineAccess = "offline_access"

// authorize sends a person to the authorization server, and returns the grant. opened
// reports whether the person was asked.
func (s *Source) authorize(ctx context.Context, c challenge, scopes []string) (opened bool, g *tokens.Grant, err error) {
	t, err := s.discover(ctx, c)
	if err != nil {
		return false, nil, err
	}
	answer, err := listen(rand.Text())
	if err != nil {
		return false, nil, err
	}
	defer answer.close()
	if g, err = s.register(ctx, t, answer.address); err != nil {
		return false, nil, err
	}
	if scopes == nil {
		scopes = t.scopes
	}
	asks := slices.Clone(scopes)
	if slices.Contains(t.server.ScopesSupported, offlineAccess) && !slices.Contains(asks, offlineAccess) {
		asks = append(asks, offlineAccess)
	}
	verifier := oauth2.GenerateVerifier()
	config := oauth2.Config{ClientID: g.ClientID, RedirectURL: answer.address, Scopes: asks, Endpoint: oauth2.Endpoint{AuthURL: t.server.AuthorizationEndpoint}}
	page := config.AuthCodeURL(answer.state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("resource", t.resource))
	s.show(page)
	code, err := s.await(ctx, answer, t)
	if err != nil {
		return true, nil, err
	}
	g.Scopes = scopes
	g, err = s.exchange(ctx, g, code, verifier, answer.address)
	return true, g, err
}

// show sends the person to a page.
func (s *Source) show(page string) {
	s.o.Say("sign in at %s: open %s", s.shown(), page)
	if s.o.Open == nil {
		return
	}
	if err := s.o.Open(page); err != nil {
		s.o.Say("no browser could be started (%v): open the address yourself, in a browser on this machine", err)
	}
}

// await waits for the answer, and returns the code in it.
func (s *Source) await(ctx context.Context, answer *listener, t *target) (code string, err error) {
	got, err := answer.await(ctx, s.o.Paste)
	if err != nil {
		return "", fmt.Errorf("nobody has signed in within %v: run farebox connect login %s, which waits at a terminal", s.o.Patience, s.shown())
	}
	iss := got.Get("iss")
	switch {
	case iss == "" && t.server.AuthorizationResponseIssParameterSupported, iss != "" && iss != t.server.Issuer:
		return "", fmt.Errorf("the answer of the browser is not of %s, and was not used", t.server.Issuer)
	case got.Get("error") == "access_denied":
		return "", errors.New("the sign-in was denied in the browser: start the client again, or run farebox connect login, to be asked again")
	case got.Get("error") != "":
		return "", fmt.Errorf("the authorization server has refused the sign-in: %w", refusalOf(got.Get("error"), got.Get("error_description")))
	case got.Get("code") == "":
		return "", errors.New("the answer of the browser has no code")
	}
	return got.Get("code"), nil
}

// register returns the beginning of a grant, with a client of the authorization server.
// A new one is registered for each sign-in: it has the port of this sign-in in its
// redirect URI, which some servers compare, and the server may have deleted the last one.
func (s *Source) register(ctx context.Context, t *target, redirect string) (*tokens.Grant, error) {
	g := &tokens.Grant{
		Server: s.server, ID: rand.Text(), Resource: t.resource, Issuer: t.server.Issuer,
		TokenEndpoint: t.server.TokenEndpoint, RevocationEndpoint: t.server.RevocationEndpoint, ClientID: s.o.ClientID, ClientAuth: "none",
	}
	switch {
	case g.ClientID != "":
		return g, nil
	case t.server.RegistrationEndpoint == "":
		return nil, fmt.Errorf("programs cannot register themselves at %s: name a client that it knows with --client-id", t.server.Issuer)
	}
	got, err := oauthex.RegisterClient(ctx, t.server.RegistrationEndpoint, &oauthex.ClientRegistrationMetadata{
		ClientName: clientName, RedirectURIs: []string{redirect}, ApplicationType: "native",
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: "none",
	}, s.http)
	if err != nil {
		return nil, fmt.Errorf("register at %s: %s", t.server.Issuer, clip(weburl.Cause(err).Error()))
	}
	g.ClientID, g.ClientSecret = got.ClientID, got.ClientSecret
	if got.TokenEndpointAuthMethod != "" {
		g.ClientAuth = got.TokenEndpointAuthMethod
	} else if got.ClientSecret != "" {
		g.ClientAuth = "client_secret_basic" // the default of RFC 7591, section 2
	}
	return g, nil
}
