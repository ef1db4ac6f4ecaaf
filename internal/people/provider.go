package people

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Bounds of requests to the provider.
const (
	providerTime    = 10 * time.Second // for one request
	maxProviderBody = 1 << 20          // bytes of a response
	providerPause   = 5 * time.Second  // pause after a failed attempt to read the metadata
	maxSubject      = 255              // characters, as OpenID Connect Core, section 2, says
)

// provider is the configured OpenID provider. It reads the provider's metadata at the
// first use, so that Farebox starts without it. It is safe for concurrent use.
type provider struct {
	Provider
	now    func() time.Time
	client *http.Client

	lock   chan struct{} // a mutex; a channel, so that waiting for it can be cancelled
	found  *oidc.Provider
	failed time.Time // time of the last failed attempt to read the metadata
}

// newProvider checks the settings of a provider.
func newProvider(p *Provider, origin string, now func() time.Time) (*provider, error) {
	issuer, err := url.Parse(p.Issuer)
	if err != nil || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" || !secure(issuer) {
		return nil, fmt.Errorf("issuer %q: want an https address", p.Issuer)
	}
	if p.ClientID == "" {
		return nil, errors.New("the provider needs a client id")
	}
	if origin == "" || !strings.HasPrefix(p.Callback, origin+"/") {
		return nil, fmt.Errorf("the callback %q of the provider is not below the origin of the console", p.Callback)
	}
	for _, a := range p.Accounts {
		if (a.Domain == "") == (a.Group == "") || a.Account == "" || !a.Role.Valid() {
			return nil, errors.New("an account for users of the provider needs a domain or a group, the account, and the role owner or viewer")
		}
	}
	made := &provider{Provider: *p, now: now, lock: make(chan struct{}, 1), client: &http.Client{
		Timeout:       providerTime,
		Transport:     boundedBodies{http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return made, nil
}

// same reports whether two providers have the same settings.
func (p *provider) same(other *provider) bool { return reflect.DeepEqual(p.Provider, other.Provider) }

// boundedBodies is a transport that cuts responses after maxProviderBody bytes.
type boundedBodies struct{ http.RoundTripper }

// RoundTrip sends the request.
func (b boundedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = &boundedBody{io.LimitReader(response.Body, maxProviderBody), response.Body}
	}
	return response, err
}

// boundedBody is a response body that is cut after maxProviderBody bytes.
type boundedBody struct {
	io.Reader
	io.Closer
}

// metadata returns the provider with its endpoints. It reads the provider's metadata at
// the first call.
func (p *provider) metadata(ctx context.Context) (*oidc.Provider, error) {
	select {
	case p.lock <- struct{}{}:
		defer func() { <-p.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.found != nil {
		return p.found, nil
	}
	if p.now().Sub(p.failed) < providerPause {
		return nil, errors.New("the last attempt to read the metadata failed a moment ago")
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.Issuer)
	if err == nil {
		err = checkEndpoints(found)
	}
	if err != nil {
		p.failed = p.now()
		return nil, err
	}
	p.found = found
	return found, nil
}

// checkEndpoints refuses metadata with an endpoint that is neither https nor on a
// loopback address, because the service sends secrets to the endpoints.
func checkEndpoints(p *oidc.Provider) error {
	var keys struct {
		Address string `json:"jwks_uri"`
	}
	if err := p.Claims(&keys); err != nil {
		return err
	}
	for _, address := range []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL, keys.Address} {
		if u, err := url.Parse(address); err != nil || !secure(u) {
			return fmt.Errorf("the metadata has the address %q: want https", address)
		}
	}
	return nil
}

func (p *provider) oauth(found *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: found.Endpoint(), RedirectURL: p.Callback,
		Scopes: append([]string{oidc.ScopeOpenID, "email", "profile"}, p.Scopes...),
	}
}

// visit is the data of a ceremony in which a person visits the OpenID provider.
type visit struct {
	Person  string `json:"person,omitempty"` // id of the person that connects the provider; "" for a sign-in
	Session string `json:"session,omitempty"`
	Issuer  string `json:"issuer"`
}

// fromSecret derives the value of a parameter, such as the state, from the ceremony's
// secret. So the store need not keep the value.
func fromSecret(purpose, secret string) string {
	sum := sha256.Sum256([]byte(purpose + "\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// BeginProvider begins a sign-in at the provider. It returns the address to redirect to
// and the secret of the ceremony, which the console keeps in a cookie. If by is not
// nil, FinishProvider does not sign in, but connects the provider's user with the
// person of that session. Errors: ErrNoProvider, ErrStale, *DelayError.
func (s *Service) BeginProvider(ctx context.Context, c Client, by *SignedIn) (address, ceremony string, err error) {
	p := s.current.Load().provider
	if p == nil {
		return "", "", ErrNoProvider
	}
	v := visit{Issuer: p.Issuer}
	if by != nil {
		if err := s.fresh(by); err != nil {
			return "", "", err
		}
		v.Person, v.Session = by.Person.ID, by.Session.ID
	}
	if err := s.pace.begin(c); err != nil {
		return "", "", err
	}
	found, err := p.metadata(ctx)
	if err != nil {
		s.o.Logger.Warn("the OpenID provider cannot be used", "issuer", p.Issuer, "error", err)
		return "", "", ErrNoProvider
	}
	if ceremony, err = s.beginCeremony(ctx, providerKind, &v); err != nil {
		return "", "", err
	}
	address = p.oauth(found).AuthCodeURL(fromSecret("state", ceremony),
		oidc.Nonce(fromSecret("nonce", ceremony)), oauth2.S256ChallengeOption(fromSecret("verifier", ceremony)))
	return address, ceremony, nil
}

// FinishProvider finishes a ceremony. The code and the state come from the query of the
// provider's redirect. FinishProvider signs in the user's person, after creating it if
// necessary, or connects the user with the person that began the ceremony. If it
// connects, the returned token is "", because the session stays. Errors: ErrCeremony,
// ErrProvider, ErrNoProvider, ErrEmailTaken, ErrRegistration, ErrSession.
func (s *Service) FinishProvider(ctx context.Context, c Client, ceremony, state, code string) (SignedIn, string, error) {
	c = shown(c)
	settings := s.current.Load()
	p := settings.provider
	if p == nil {
		return SignedIn{}, "", ErrNoProvider
	}
	var v visit
	if err := s.takeCeremony(ctx, ceremony, providerKind, &v); err != nil {
		return SignedIn{}, "", err
	}
	if !sameSecret(fromSecret("state", ceremony), state) || v.Issuer != p.Issuer || code == "" {
		return SignedIn{}, "", ErrCeremony
	}
	u, err := p.user(ctx, ceremony, code)
	if err != nil {
		s.o.Logger.Warn("a sign-in by the OpenID provider was refused", "issuer", p.Issuer, "error", err)
		return SignedIn{}, "", ErrProvider
	}
	if v.Person != "" {
		in, err := s.connect(ctx, c, settings, &v, u)
		return in, "", err
	}
	return s.enter(ctx, c, settings, u)
}

// providerUser has the claims that the provider makes about a user.
type providerUser struct {
	Issuer, Subject string
	Email           string // the verified address in its normal form; "" if the user has none
	Name            string
	Groups          []string
}

// user exchanges the authorization code for an ID token, verifies the token, and
// returns the user that it identifies.
func (p *provider) user(ctx context.Context, ceremony, code string) (*providerUser, error) {
	found, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	tokens, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(fromSecret("verifier", ceremony)))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) { // the text of the error repeats the response, which must not be logged
			err = fmt.Errorf("the token endpoint returned %s", refused.Response.Status)
		}
		return nil, err
	}
	raw, _ := tokens.Extra("id_token").(string)
	token, err := found.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, Now: p.now}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !sameSecret(token.Nonce, fromSecret("nonce", ceremony)) {
		return nil, errors.New("the nonce is not that of this sign-in")
	}
	if token.Subject == "" || len(token.Subject) > maxSubject {
		return nil, errors.New("the subject is missing or too long")
	}
	return p.read(token)
}

// read returns the user that the claims of an ID token describe.
func (p *provider) read(token *oidc.IDToken) (*providerUser, error) {
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return nil, err
	}
	text := func(name string) (value string) {
		_ = json.Unmarshal(claims[name], &value) // a claim that is not a string counts as missing
		return value
	}
	u := &providerUser{Issuer: token.Issuer, Subject: token.Subject}
	if verified := string(claims["email_verified"]); verified == "true" || verified == `"true"` {
		u.Email, _ = normalEmail(text("email"))
	}
	u.Name, _ = normalName(text("name"))
	groups := p.GroupsClaim
	if groups == "" {
		groups = "groups"
	}
	if json.Unmarshal(claims[groups], &u.Groups) != nil {
		u.Groups = nil
		if one := text(groups); one != "" {
			u.Groups = []string{one}
		}
	}
	return u, nil
}

// admits reports whether a provider's user may sign in. If Domains are configured, the
// user needs a verified address in one of them.
func (p *provider) admits(u *providerUser) bool {
	return len(p.Domains) == 0 || u.Email != "" && slices.Contains(p.Domains, domainOf(u.Email))
}
