package server

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// Pending is a request of a client that waits for the decision of a person at the
// console. It comes from OpenConsole only.
type Pending struct {
	Request
	Title    string // name of the MCP server for people
	Resource string // identifier of the MCP server
	// Scopes are those that the person can give.
	Scopes       []Scope
	Environments []keys.Environment // environments that the MCP server admits; empty for all
	// Before is the person's last live grant for the client. The page proposes its
	// decision again. Before is nil without such a grant.
	Before *oauth.Grant

	issuer *Issuer
	chosen []string // scopes that the client has asked for, and those that they include
}

// Person is the person at the console. The console has checked the rights.
type Person struct {
	Actor    admin.Actor // its name is the person's id
	Source   netip.Addr  // address of the browser
	Operator bool
}

// Decision is the consent of a person.
type Decision struct {
	Account     string // id of an account; the person manages the account's keys
	Environment keys.Environment
	Scopes      []string
	Cap         string        // amount for a month; "" for none
	Life        time.Duration // time until the end of the grant; 0 for no end
}

// OpenConsole returns the request that an issuer has sealed for the console. Owners of
// accounts can give the scopes that the config gives to new keys, and operators all scopes.
// Requests that are unknown or too old are refused with an *oauth.Error.
func (s *Server) OpenConsole(ctx context.Context, by *Person, server, sealed string) (*Pending, error) {
	at := slices.IndexFunc(s.o.Issuers, func(i *Issuer) bool { return i.Server == server })
	if at < 0 {
		return nil, oauth.Refuse(oauth.InvalidRequest, "there is no such server: go back to the app and connect again")
	}
	backend, release, err := s.o.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	issuer := s.o.Issuers[at]
	r, err := unseal(backend.Sealer(), issuer, s.o.Now(), sealed, forConsole, "")
	if err != nil {
		return nil, err
	}
	p := &Pending{Request: *r, Title: issuer.Title, Resource: issuer.Resource, Environments: issuer.Environments, issuer: issuer, chosen: s.o.Scopes.Expand(r.Scopes)}
	given := s.o.Scopes.Expand(s.o.Scopes.Default())
	for _, scope := range issuer.Scopes {
		if by.Operator || slices.Contains(given, scope.Name) {
			p.Scopes = append(p.Scopes, scope)
		}
	}
	before, found, err := backend.OAuth().Remembered(ctx, by.Actor.Name, p.Client, p.Server, p.Target())
	if found {
		p.Before = &before
	}
	return p, err
}

// Chosen reports whether the page proposes to give the scope: if the client asks for it,
// has got it before, or asks for no scope in particular.
func (p *Pending) Chosen(scope string) bool {
	return len(p.Request.Scopes) == 0 || slices.Contains(p.chosen, scope) || p.Before != nil && slices.Contains(p.Before.Scopes, scope)
}

// Cap returns the monthly cap that the page proposes, as an amount, "" for none.
func (p *Pending) Cap() string {
	if p.Before == nil || p.Before.Limits == nil || p.Before.Limits.Month == 0 {
		return ""
	}
	return ledger.Amount(p.Before.Limits.Month).String()
}

// Pays reports whether the page proposes the account with the id.
func (p *Pending) Pays(account string) bool { return p.Before != nil && p.Before.Account == account }

// Test reports whether the page proposes to pay with test credits.
func (p *Pending) Test() bool { return p.Before != nil && p.Before.Environment == keys.Test }

// AllowAtConsole stores the grant of the person and gives it to the client. It returns the
// URL to which the browser goes then, or "" for a device. Decisions that are not possible
// are refused with an *oauth.Error.
func (s *Server) AllowAtConsole(ctx context.Context, by *Person, p *Pending, d *Decision) (string, error) {
	if len(p.Environments) > 0 && !slices.Contains(p.Environments, d.Environment) {
		return "", oauth.Refuse(oauth.AccessDenied, "this server does not admit keys of the environment %s", d.Environment)
	}
	for _, name := range d.Scopes {
		if !slices.ContainsFunc(p.Scopes, func(s Scope) bool { return s.Name == name }) {
			return "", oauth.Refuse(oauth.InvalidScope, "you cannot give the scope %s", name)
		}
	}
	limits, err := capOf(d.Cap)
	if err != nil {
		return "", err
	}
	consent := oauth.Consent{
		Client: p.Client, ClientName: p.ClientName, Host: p.Target(), Server: p.Server, Scopes: d.Scopes,
		Person: by.Actor.Name, Account: d.Account, Environment: d.Environment, Limits: limits,
	}
	switch {
	case d.Life < 0 || d.Life > maxLife:
		return "", oauth.Refuse(oauth.InvalidRequest, "the end is not one of those on the page")
	case d.Life > 0:
		consent.ExpiresAt = s.o.Now().Add(d.Life)
	}
	backend, release, err := s.o.Open(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	grant, err := backend.OAuth().Approve(ctx, by.Actor, consent)
	if err != nil {
		return "", err
	}
	s.used(ctx, by.Source, p.Client)
	if p.UserCode != "" {
		return "", answerDevice(ctx, backend, by.Actor, p.UserCode, &grant)
	}
	code, err := backend.OAuth().IssueCode(ctx, &grant, p.forCode())
	if err != nil {
		return "", err
	}
	return p.back(url.Values{"code": {code}}), nil
}

// answerDevice gives the grant to the device with the user code. If no device waits any
// more, answerDevice revokes the grant, because nobody could use the grant.
func answerDevice(ctx context.Context, backend Backend, actor admin.Actor, userCode string, grant *oauth.Grant) error {
	err := backend.OAuth().AnswerDevice(ctx, userCode, grant.ID, grant.Scopes)
	if err == nil {
		return nil
	}
	_, revoked := backend.OAuth().RevokeGrant(context.WithoutCancel(ctx), actor, grant.ID)
	return errors.Join(err, revoked)
}

// DenyAtConsole refuses the client. It returns the URL to which the browser goes then, or
// "" for a device.
func (s *Server) DenyAtConsole(ctx context.Context, p *Pending) (string, error) {
	if p.UserCode == "" {
		return p.back(url.Values{"error": {string(oauth.AccessDenied)}, "error_description": {"the person refused"}}), nil
	}
	backend, release, err := s.o.Open(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return "", backend.OAuth().AnswerDevice(ctx, p.UserCode, "", nil)
}

// used records that the client has got a grant. A failure only makes the client expire
// earlier, and the token request repeats it.
func (s *Server) used(ctx context.Context, source netip.Addr, id string) {
	clients, err := s.o.Clients()
	if err != nil {
		return
	}
	if c, err := clients.Find(ctx, source, id); err == nil {
		_ = clients.Used(ctx, c)
	}
}

// back returns the redirect URI of the request with the parameters of a response.
func (p *Pending) back(values url.Values) string {
	return p.issuer.answerTo(p.Redirect, p.State, values)
}
