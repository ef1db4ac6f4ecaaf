package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// tokenResponse is the body of a successful response (RFC 6749, section 5.1).
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// caller is the client of a request, with its method of authentication.
type caller struct {
	*client.Client
	method client.AuthMethod
}

// authenticate returns the form of a request and its client.
func (x *exchange) authenticate() (url.Values, caller, error) {
	form, err := x.form()
	if err != nil {
		return nil, caller{}, err
	}
	clients, err := x.o.Clients()
	if err != nil {
		return nil, caller{}, err
	}
	c, method, err := clients.Authenticate(x.r.Context(), &client.Request{
		Source: x.source, Authorization: x.r.Header.Values("Authorization"), Form: form, Audiences: []string{x.issuer.URL.String(), x.issuer.at("/token")},
	})
	return form, caller{c, method}, err
}

// forService returns the caller as the service knows it.
func (x *exchange) forService(c caller) oauth.Client {
	return oauth.Client{ID: c.ID, Method: string(c.method), Server: x.issuer.Server, Actor: x.actor("oauth client " + c.ID), Refreshes: true}
}

// token serves the token endpoint.
func (x *exchange) token() error {
	form, c, err := x.authenticate()
	if err != nil {
		return err
	}
	if err := x.checkResource(form); err != nil {
		return err
	}
	tokens, err := x.issue(form, c)
	if err != nil {
		return err
	}
	if clients, err := x.o.Clients(); err == nil {
		if err := clients.Used(x.r.Context(), c.Client); err != nil {
			x.o.Logger.Warn("the use of an OAuth client could not be recorded", "client", c.ID, "error", err)
		}
	}
	x.json(http.StatusOK, tokenResponse{
		AccessToken: tokens.Access, TokenType: "Bearer", ExpiresIn: int64(tokens.ExpiresIn / time.Second), RefreshToken: tokens.Refresh, Scope: strings.Join(tokens.Scopes, " "),
	})
	return nil
}

// issue issues the tokens that a request asks for.
func (x *exchange) issue(form url.Values, c caller) (oauth.Tokens, error) {
	ctx, of, lives := x.r.Context(), x.forService(c), x.o.Lives
	switch form.Get("grant_type") {
	case client.GrantCode:
		return x.OAuth().Exchange(ctx, of, form.Get("code"), form.Get("redirect_uri"), form.Get("code_verifier"), lives)
	case client.GrantRefresh:
		return x.OAuth().Refresh(ctx, of, form.Get("refresh_token"), x.issuer.scopesOf(form), lives)
	case client.GrantDevice:
		return x.OAuth().PollDevice(ctx, of, form.Get("device_code"), lives)
	case client.GrantCredentials:
		return x.issueToPayer(form, c)
	case "":
		return oauth.Tokens{}, oauth.Refuse(oauth.InvalidRequest, "grant_type is missing")
	}
	return oauth.Tokens{}, oauth.Refuse(oauth.UnsupportedGrant, "grant_type: want one of %s, %s, %s, %s", client.GrantCode, client.GrantRefresh, client.GrantDevice, client.GrantCredentials)
}

// issueToPayer issues an access token to a client of the config that has an account of its
// own (RFC 6749, section 4.4).
func (x *exchange) issueToPayer(form url.Values, c caller) (oauth.Tokens, error) {
	if c.Account == "" {
		return oauth.Tokens{}, oauth.Refuse(oauth.UnauthorizedClient, "only clients of the config that have an account may use client_credentials")
	}
	scopes := x.issuer.scopesOf(form)
	if len(scopes) == 0 {
		scopes = c.Scopes
	}
	for _, s := range scopes {
		if !slices.Contains(c.Scopes, s) {
			return oauth.Tokens{}, oauth.Refuse(oauth.InvalidScope, "the config does not give the scope %s to this client", s)
		}
	}
	ctx := x.r.Context()
	account, _, err := x.Account(ctx, c.Account)
	if err != nil {
		return oauth.Tokens{}, err
	}
	of := x.forService(c)
	grant, err := x.OAuth().GrantOfClient(ctx, of.Actor, oauth.Consent{
		Client: c.ID, ClientName: c.Name, Server: x.issuer.Server, Scopes: c.Scopes, Account: account, Environment: x.issuer.environment(),
	})
	if err != nil {
		return oauth.Tokens{}, err
	}
	return x.OAuth().IssueFor(ctx, of, grant.ID, scopes, x.o.Lives)
}

// revoke serves the revocation endpoint (RFC 7009). Unknown tokens are no error.
func (x *exchange) revoke() error {
	form, c, err := x.authenticate()
	if err != nil {
		return err
	}
	if form.Get("token") == "" {
		return oauth.Refuse(oauth.InvalidRequest, "token is missing")
	}
	if err := x.OAuth().RevokeToken(x.r.Context(), x.forService(c), form.Get("token")); err != nil {
		return err
	}
	x.json(http.StatusOK, struct{}{})
	return nil
}

// introspect serves the introspection endpoint (RFC 7662). A client learns only about its
// own tokens.
func (x *exchange) introspect() error {
	form, c, err := x.authenticate()
	if err != nil {
		return err
	}
	i, err := x.OAuth().Introspect(x.r.Context(), x.forService(c), form.Get("token"))
	if err != nil {
		return err
	}
	if i.Active {
		i.Issuer, i.Audience = x.issuer.URL.String(), x.issuer.Resource
	}
	x.json(http.StatusOK, i)
	return nil
}

// register serves the registration endpoint (RFC 7591).
func (x *exchange) register() error {
	body, err := x.body()
	if err != nil {
		return err
	}
	clients, err := x.o.Clients()
	if err != nil {
		return err
	}
	response, err := clients.Register(x.r.Context(), x.source, body)
	if err != nil {
		return err
	}
	if len(response.Dropped) > 0 {
		x.o.Logger.Info("redirect URIs of an OAuth client were not registered", "server", x.issuer.Server, "client", response.ClientID, "dropped", response.Dropped)
	}
	x.json(http.StatusCreated, response)
	return nil
}
