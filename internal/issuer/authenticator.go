package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
)

const (
	// verifiedTime is the time for which a verified token is not verified again. So a key
	// that the issuer has withdrawn is dead that long after the issuer's keys were
	// fetched.
	verifiedTime = 5 * time.Minute
	// maxVerified bounds the verified tokens in memory, and maxInactive the refused opaque
	// ones: at most twice as many are held. A verified token is kept with its text, usually
	// about 1 KiB, for Again.
	maxVerified = 1 << 13
	maxInactive = 1 << 13
	// maxOpened bounds the accounts that are known to be there.
	maxOpened = 1 << 15
)

// Trust says how a site accepts the tokens of one source.
type Trust struct {
	Source      *Source
	Audiences   []string // a token must be for one of them
	Account     AccountRule
	Scopes      ScopeRule
	Environment keys.Environment
	Limits      *keys.Limits // limits on each subject; nil for none
}

// ScopeRule says which scopes a token carries. Scopes that the operator has not declared
// mean nothing.
type ScopeRule struct {
	// Claim names the claim: a text of words, or a list. Default: scope, or else scp.
	Claim string
	// Map has the scopes for each value of the claim. If it is nil, the values are the
	// scopes.
	Map map[string][]string
}

// trust is a Trust that is in use.
type trust struct {
	Trust
	declared map[string]bool
}

func (t *trust) test() bool { return t.Environment == keys.Test }

// scopesOf returns the scopes that a token carries.
func (t *trust) scopesOf(c claims) []string {
	values := c.texts(t.Scopes.Claim)
	if t.Scopes.Claim == "" {
		if values = c.texts("scope"); values == nil {
			values = c.texts("scp")
		}
	}
	var scopes []string
	for _, value := range values {
		for word := range strings.FieldsSeq(value) {
			if t.Scopes.Map != nil {
				scopes = append(scopes, t.Scopes.Map[word]...)
				continue
			}
			scopes = append(scopes, word)
		}
	}
	scopes = slices.DeleteFunc(scopes, func(s string) bool { return !t.declared[s] })
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// Setup has the settings and the services of an Authenticator.
type Setup struct {
	Trusts   []Trust
	Scopes   *keys.Catalogue // the declared scopes
	Secrets  *keys.Format    // the form of stored keys, which are left to the gate
	Accounts Accounts
	Metrics  Metrics
	Logger   *slog.Logger
}

// Authenticator admits the tokens of issuers to one site. It is safe for concurrent use.
type Authenticator struct {
	Setup
	accounts Accounts
	trusts   map[string]*trust // by issuer
	opaque   *trust            // the trust with an introspection endpoint; nil without one
	flood    *flood

	mu       sync.RWMutex
	verified *recent.Map[keys.Digest, *evidence]
	inactive *recent.Map[keys.Digest, time.Time] // opaque tokens that are not active, each until the time
	opened   *recent.Map[string, string]         // ids of accounts by the ids that are derived from values
}

// evidence is a verified token.
type evidence struct {
	token  string
	trust  *trust // nil for an opaque token
	until  time.Time
	caller gate.Caller
}

// NewAuthenticator returns the authenticator of a site. No two trusts may have the same
// issuer, and only one may have an introspection endpoint: a token must not be sent to
// another issuer than its own.
func NewAuthenticator(s Setup) (*Authenticator, error) {
	a := &Authenticator{
		Setup: s, accounts: s.Accounts, trusts: make(map[string]*trust), flood: newFlood(),
		verified: recent.New[keys.Digest, *evidence](maxVerified),
		inactive: recent.New[keys.Digest, time.Time](maxInactive),
		opened:   recent.New[string, string](maxOpened),
	}
	declared := make(map[string]bool)
	for _, name := range s.Scopes.Names() {
		declared[name] = true
	}
	for _, one := range s.Trusts {
		t := &trust{one, declared}
		name := one.Source.Issuer()
		if a.trusts[name] != nil {
			return nil, fmt.Errorf("the issuer %s is named twice", name)
		}
		a.trusts[name] = t
		if one.Source.o.Introspection == nil {
			continue
		}
		if a.opaque != nil {
			return nil, errors.New("only one issuer of a site can have introspection: tokens would be sent to another issuer than their own")
		}
		a.opaque = t
	}
	return a, nil
}

// Authenticate returns the caller that a token of an issuer stands for. It leaves tokens of
// other forms and of other issuers to the next Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, client netip.Addr, token string) (gate.Caller, error) {
	signed := strings.IndexByte(token, '.') >= 0
	if !signed && (a.opaque == nil || a.isKey(token)) {
		return gate.Caller{}, gate.ErrOtherCredential
	}
	digest := keys.DigestOf(token)
	if e := a.known(digest); e != nil {
		return e.caller, nil
	}
	return a.lookUp(ctx, client, token, digest)
}

// isKey reports whether a token has the form of a stored key.
func (a *Authenticator) isKey(token string) bool {
	_, err := a.Secrets.Parse(token)
	return err == nil
}

// Again returns the caller as it is now. A token that was verified a while ago is verified
// again.
func (a *Authenticator) Again(ctx context.Context, client netip.Addr, c *gate.Caller) (gate.Caller, error) {
	e, ok := c.Evidence.(*evidence)
	if !ok {
		return gate.Caller{}, gate.ErrOtherCredential // cannot happen: the gate asks for callers of this Authenticator
	}
	if clock.Now().Before(e.until) {
		return e.caller, nil
	}
	if e := a.known(c.Handle); e != nil {
		return e.caller, nil
	}
	return a.lookUp(ctx, client, e.token, c.Handle)
}

// known returns the token with the digest, or nil if it has to be verified.
func (a *Authenticator) known(digest keys.Digest) *evidence {
	a.mu.RLock()
	e, ok := a.verified.Get(digest)
	a.mu.RUnlock()
	if !ok || !clock.Now().Before(e.until) {
		return nil
	}
	return e
}

// lookUp verifies a token and remembers it.
func (a *Authenticator) lookUp(ctx context.Context, client netip.Addr, token string, digest keys.Digest) (gate.Caller, error) {
	u, signed, err := readToken(token)
	t := a.opaque
	switch {
	case err == nil && signed:
		t = a.trusts[u.issuer]
	case err == nil && (len(token) > maxToken || a.opaque != nil && a.isKey(token)):
		t = nil
	}
	if err == nil && t == nil {
		return gate.Caller{}, gate.ErrOtherCredential
	}
	if !a.flood.take(client) {
		a.Metrics.IssuerToken("limited")
		return gate.Caller{}, gate.ErrFlood
	}
	var f *facts
	switch {
	case err != nil:
	case signed:
		f, err = t.Source.verify(ctx, u, t.Audiences)
	default:
		f, err = a.introspect(ctx, t, token, digest)
	}
	var c gate.Caller
	if err == nil {
		c, err = a.callerOf(ctx, t, f, token, digest, signed)
	}
	a.count(client, err)
	return c, err
}

// count counts the result of a verification. Only an invalid token counts against its
// network.
func (a *Authenticator) count(client netip.Addr, err error) {
	result := "unavailable"
	switch {
	case err == nil:
		result = "accepted"
	case errors.Is(err, keys.ErrUnknown), errors.Is(err, gate.ErrNoAccount):
		result = "refused"
	}
	if !errors.Is(err, keys.ErrUnknown) {
		a.flood.give(client)
	}
	a.Metrics.IssuerToken(result)
}

// introspect asks the issuer about an opaque token, unless it is known not to be active.
func (a *Authenticator) introspect(ctx context.Context, t *trust, token string, digest keys.Digest) (*facts, error) {
	a.mu.RLock()
	until, ok := a.inactive.Get(digest)
	a.mu.RUnlock()
	if ok && clock.Now().Before(until) {
		return nil, errInactive
	}
	f, err := t.Source.introspect(ctx, token, digest, t.Audiences)
	if errors.Is(err, keys.ErrUnknown) {
		a.mu.Lock()
		a.inactive.Put(digest, clock.Now().Add(inactiveTime))
		a.mu.Unlock()
	}
	return f, err
}

// callerOf returns the caller of a verified token. No account is made for an expired
// token.
func (a *Authenticator) callerOf(ctx context.Context, t *trust, f *facts, token string, digest keys.Digest, signed bool) (gate.Caller, error) {
	now := clock.Now()
	if !f.expires.IsZero() && !now.Before(f.expires) {
		return a.expired(ctx, t, f, digest)
	}
	account, err := a.accountOf(ctx, t, f.claims, true)
	if err != nil {
		return gate.Caller{}, err
	}
	c := t.caller(f, account, digest)
	e := &evidence{token: token, trust: t, until: now.Add(verifiedTime)}
	if !signed {
		e.until = now.Add(introspectionTime)
		c.FreshUntil = e.until
	}
	if !f.expires.IsZero() && f.expires.Before(e.until) {
		e.until = f.expires
	}
	c.Evidence, e.caller = e, c
	e.caller.Evidence = e
	a.mu.Lock()
	a.verified.Put(digest, e)
	a.mu.Unlock()
	a.Logger.Debug("a token of an issuer was accepted", "issuer", t.Source.Issuer(), "subject", c.Subject, "client", f.client, "account", account)
	return c, nil
}

// expired returns the caller of an expired token, which the gate refuses as expired.
func (a *Authenticator) expired(ctx context.Context, t *trust, f *facts, digest keys.Digest) (gate.Caller, error) {
	account, err := a.accountOf(ctx, t, f.claims, false)
	if errors.Is(err, gate.ErrNoAccount) {
		return gate.Caller{}, invalid("it has expired")
	}
	if err != nil {
		return gate.Caller{}, err
	}
	return t.caller(f, account, digest), nil
}

// caller returns the caller for a token.
func (t *trust) caller(f *facts, account string, digest keys.Digest) gate.Caller {
	issuer := t.Source.Issuer()
	return gate.Caller{
		Subject: subjectOf(issuer, f.subject), Account: account, Lineage: lineageOf(issuer, f.subject),
		Environment: t.Environment, Connect: true, Scopes: t.scopesOf(f.claims), Limits: t.Limits,
		ExpiresAt: f.expires, Handle: digest, Client: f.client,
	}
}

// Interface guards: the compiler checks that Authenticator implements these interfaces.
var (
	_ gate.Authenticator = (*Authenticator)(nil)
	_ gate.Rechecker     = (*Authenticator)(nil)
)
