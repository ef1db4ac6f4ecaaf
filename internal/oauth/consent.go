package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Consent is the decision of a person, or of the holder of an agent key, to let a client
// call a server. Exactly one of Key and Person is set, unless the operator's config
// decides.
type Consent struct {
	Client     string
	ClientName string
	Host       string // host to which the code is sent
	Server     string
	Scopes     []string // granted scopes
	// Key is the id of the agent key that pays. It decides the account and the
	// environment, and the grant ends with the key.
	Key string
	// Person is the id of a person that may create keys for Account.
	Person      string
	Account     string
	Environment keys.Environment
	Limits      *keys.Limits // for this grant; nil for none. Refused for a key that has limits
	ExpiresAt   time.Time    // end of this grant; zero for none
}

// Approve stores a grant and returns it.
//
// A grant that an agent key gives ends with the key. If the key has limits, the tokens of
// the grant have the same limits and are counted together with the key, because a key
// with a cap could otherwise multiply its cap by giving grants. Otherwise the grant is
// counted by itself.
func (s *Service) Approve(ctx context.Context, actor admin.Actor, c Consent) (Grant, error) {
	now := s.o.Now()
	g := Grant{
		ID: ids.New("grant_"), Account: c.Account, Environment: c.Environment, Server: c.Server, Client: c.Client, ClientName: cut(printable(c.ClientName), maxClientName),
		Host: c.Host, Scopes: slices.Clone(c.Scopes), Limits: c.Limits, Key: c.Key, Person: c.Person, CreatedAt: now, ExpiresAt: c.ExpiresAt,
	}
	g.Lineage = g.ID
	if c.Key != "" {
		if err := s.payBy(ctx, &g); err != nil {
			return Grant{}, err
		}
	}
	if err := checkGrant(&g, now); err != nil {
		return Grant{}, err
	}
	err := s.store.Change(ctx, func(tx Tx) error {
		if err := s.checkRoom(ctx, tx, &g); err != nil {
			return err
		}
		if err := tx.InsertGrant(&g); err != nil {
			return err
		}
		return tx.Audit(s.audit(actor, "grant.create", g.ID, map[string]any{
			"account": g.Account, "client": g.Client, "host": g.Host, "server": g.Server, "scopes": g.Scopes, "limits": g.Limits, "expires_at": g.ExpiresAt, "key": g.Key, "person": g.Person,
		}))
	})
	if err != nil {
		return Grant{}, err
	}
	// The key may have been deleted or narrowed before the grant was stored. EndGrantsOfKey
	// did not find the grant then, so look at the key again.
	if err := s.confirm(ctx, actor, &g); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Bounds of a grant.
const (
	maxClientName = 100 // bytes
	maxScopes     = 64
)

// maxGrants bounds the live grants that one key or person gives. Servers limit the rate of
// each lineage, and each grant has a lineage of its own, so that the holder of one key
// could otherwise have any rate.
const maxGrants = 100

// checkRoom returns an error if the giver of a new grant has given too many.
func (s *Service) checkRoom(ctx context.Context, tx Tx, g *Grant) error {
	if g.Key == "" && g.Person == "" {
		return nil
	}
	list, _, err := tx.Grants(ctx, GrantQuery{Page: ledger.Page{Limit: maxGrants}, Key: g.Key, Person: g.Person, Live: s.o.Now()})
	if err == nil && len(list) >= maxGrants {
		return Refuse(AccessDenied, "%d clients are connected already: end the grants of some first", maxGrants)
	}
	return err
}

// checkGrant returns an error if a part of a new grant is missing or out of range.
func checkGrant(g *Grant, now time.Time) error {
	switch _, err := keys.ParseEnvironment(string(g.Environment)); {
	case err != nil:
		return Refuse(InvalidRequest, "the grant: %v", err)
	case g.Account == "" || g.Client == "" || !keys.ValidServer(g.Server):
		return Refuse(InvalidRequest, "a grant needs an account, a client and a server")
	case g.Key != "" && g.Person != "":
		return Refuse(InvalidRequest, "a grant is given by a key or by a person, not by both")
	case len(g.Scopes) > maxScopes:
		return Refuse(InvalidScope, "a grant has at most %d scopes", maxScopes)
	case !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt):
		return Refuse(InvalidRequest, "the end of the grant is in the past")
	}
	if g.Limits != nil {
		if err := g.Limits.Check(); err != nil {
			return Refuse(InvalidRequest, "the limits of the grant: %v", err)
		}
	}
	return nil
}

// payBy sets the fields of a grant that follow from the agent key.
func (s *Service) payBy(ctx context.Context, g *Grant) error {
	k, err := s.o.Keys.Key(ctx, g.Key)
	if err != nil {
		return err
	}
	if err := s.checkPayer(&k, g.Server); err != nil {
		return err
	}
	for _, scope := range g.Scopes {
		if !s.holds(&k, scope) {
			return Refuse(AccessDenied, "this key does not have the scope %q, so it cannot give it", scope)
		}
	}
	if k.Limits != nil {
		if g.Limits != nil {
			return Refuse(InvalidRequest, "the key has limits, which hold for the grant, too: the grant cannot have others")
		}
		g.Limits, g.Lineage = k.Limits, k.Lineage
	}
	g.Account, g.Environment, g.ExpiresAt = k.Account, k.Environment, earliest(g.ExpiresAt, k.ExpiresAt)
	return nil
}

// checkPayer returns an error if the key cannot give grants for the server now. Tokens
// cannot give grants: an access token could otherwise outlive its own end.
func (s *Service) checkPayer(k *keys.Key, server string) error {
	rules := k.Kind.Rules()
	err := k.Check(s.o.Now(), keys.Use{Scope: keys.ScopeConnect, Server: server})
	switch {
	case rules.Token != "" || !rules.Pays || errors.Is(err, keys.ErrKind):
		return &Error{Code: AccessDenied, Description: "this key cannot pay for calls: want an agent key, or a personal key with the scope " + keys.ScopeConnect, Cause: err}
	case errors.Is(err, keys.ErrServer):
		return &Error{Code: AccessDenied, Description: "this key may not call this server", Cause: err}
	case err != nil:
		return &Error{Code: AccessDenied, Description: "this key is not valid any more", Cause: err}
	case k.Successor != "":
		return Refuse(AccessDenied, "this key was rotated: use its successor")
	}
	return nil
}

// CheckPayer returns the agent key with the id if it can give grants for the server now.
func (s *Service) CheckPayer(ctx context.Context, id, server string) (keys.Key, error) {
	k, err := s.o.Keys.Key(ctx, id)
	if isNotFound(err) {
		return keys.Key{}, &Error{Code: AccessDenied, Description: "there is no such key", Cause: err}
	}
	if err != nil {
		return keys.Key{}, err
	}
	return k, s.checkPayer(&k, server)
}

// holds reports whether the key has the scope, or has one that includes the scope.
func (s *Service) holds(k *keys.Key, scope string) bool {
	return k.HasScope(scope) || s.o.Catalogue().Includes(k.Scopes, scope)
}

// permits returns an error if the key could not give the grant now, because the key has
// ended or because the grant allows more than the key.
func (s *Service) permits(k *keys.Key, g *Grant) error {
	if err := s.checkPayer(k, g.Server); err != nil {
		return err
	}
	for _, scope := range g.Scopes {
		if !s.holds(k, scope) {
			return Refuse(AccessDenied, "the key has lost the scope %q", scope)
		}
	}
	switch {
	case !k.ExpiresAt.IsZero() && (g.ExpiresAt.IsZero() || k.ExpiresAt.Before(g.ExpiresAt)):
		return Refuse(AccessDenied, "the key ends before the grant")
	case k.Limits == nil || *k.Limits == (keys.Limits{}):
		return nil
	case g.Lineage != k.Lineage || g.Limits == nil || looser(g.Limits, k.Limits):
		return Refuse(AccessDenied, "the limits of the key have changed")
	}
	return nil
}

// looser reports whether limits allow something that the bounds do not allow.
func looser(limits, bounds *keys.Limits) bool {
	above := func(limit, bound int64) bool { return bound != 0 && (limit == 0 || limit > bound) }
	return above(limits.Call, bounds.Call) || above(limits.Day, bounds.Day) || above(limits.Month, bounds.Month) ||
		!bounds.Rate.IsZero() && limits.Rate != bounds.Rate
}

// confirm returns an error if the grant or its key has ended, and finishes the end of the
// grant. After a failure of the store it returns the error and ends nothing. The caller
// does not send the secrets in that case, so nobody can use the new tokens.
func (s *Service) confirm(ctx context.Context, actor admin.Actor, g *Grant) error {
	err := s.recheck(ctx, g)
	if err == nil || CodeOf(err) != InvalidGrant {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	// Delete the tokens even if the grant has ended completely: the caller may have
	// stored tokens since.
	reason := "the key that gave the grant has ended or was changed"
	if g.Person != "" {
		reason = lostRight
	}
	return errors.Join(err, s.end(ctx, actor, g.ID, reason), s.deleteTokens(ctx, actor, g.ID))
}

// recheck returns an error if the grant has ended, or if the key or the person that gave it
// cannot give grants any more. The code of the error is InvalidGrant then. It reads the store and no cache.
func (s *Service) recheck(ctx context.Context, g *Grant) error {
	var current Grant
	err := s.store.View(ctx, func(tx Tx) (err error) {
		current, err = tx.Grant(g.ID)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) || err == nil && !current.Live(s.o.Now()) {
		return Refuse(InvalidGrant, "the grant has ended")
	}
	switch {
	case err != nil:
		return err
	case g.Person != "" && s.persons != nil:
		manages, err := s.persons.ManagesKeys(ctx, g.Person, g.Account)
		if err == nil && !manages {
			err = Refuse(InvalidGrant, lostRight)
		}
		return err
	case g.Key == "":
		return nil
	}
	k, err := s.o.Keys.Key(ctx, g.Key)
	if isNotFound(err) {
		return Refuse(InvalidGrant, "the key that gave the grant does not exist any more")
	}
	if err != nil {
		return err
	}
	if err := s.permits(&k, g); err != nil {
		return &Error{Code: InvalidGrant, Description: "the key that gave the grant has ended or was changed", Cause: err}
	}
	return nil
}

func isNotFound(err error) bool {
	refused, ok := errors.AsType[*admin.Error](err)
	return ok && refused.Code == admin.NotFound
}

// AuthorizationRequest is the part of a client's request that a code is bound to.
type AuthorizationRequest struct {
	Client      string
	Server      string
	RedirectURI string // "" if the request had none: the client has only one
	Challenge   string // PKCE challenge, method S256
}

// IssueCode stores an authorization code for the grant and returns the code.
func (s *Service) IssueCode(ctx context.Context, g *Grant, r AuthorizationRequest) (string, error) {
	if r.Client != g.Client || r.Server != g.Server {
		return "", Refuse(InvalidRequest, "the grant is that of another client, or for another server")
	}
	if !ChallengeForm.MatchString(r.Challenge) {
		return "", Refuse(InvalidRequest, "code_challenge: want the SHA-256 of the verifier in base64url, 43 characters")
	}
	code := random("fbc_")
	now := s.o.Now()
	err := s.store.Change(ctx, func(tx Tx) error {
		if _, err := tx.DeleteAuthorizationsBefore(now.Add(-ReplayTime)); err != nil {
			return err
		}
		return tx.InsertAuthorization(&Authorization{
			Grant: g.ID, Client: r.Client, Server: r.Server, RedirectURI: r.RedirectURI, Challenge: r.Challenge, Scopes: g.Scopes, ExpiresAt: now.Add(CodeLife),
		}, DigestOf(code))
	})
	return code, err
}

// Remembered returns the newest live grant that the person has given to the client for the
// server, at the same host. Without such a grant, the bool is false. The decision can be
// proposed again. It must not be repeated without the person, because a program on the person's
// computer can pretend to be any client that has no secret (RFC 8252, section 8.6).
func (s *Service) Remembered(ctx context.Context, person, client, server, host string) (found Grant, ok bool, err error) {
	if person == "" {
		return found, false, nil
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, _, err := tx.Grants(ctx, GrantQuery{
			Page: ledger.Page{Limit: 20}, Client: client, Server: server, Person: person, Live: s.o.Now(),
		})
		if at := slices.IndexFunc(list, func(g Grant) bool { return g.Host == host }); at >= 0 {
			found, ok = list[at], true
		}
		return err
	})
	return found, ok, err
}

func containsAll(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// random returns a secret with the prefix and 256 random bits.
func random(prefix string) string {
	var b [32]byte
	rand.Read(b[:]) // crypto/rand never returns an error; it ends the program instead
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// GrantOfClient returns the live grant of a client that pays by the account that the
// config names. If the client has no grant, GrantOfClient makes one. It ends a grant with
// other scopes, because the config has changed since.
func (s *Service) GrantOfClient(ctx context.Context, actor admin.Actor, c Consent) (Grant, error) {
	list, _, err := s.Grants(ctx, GrantQuery{Page: ledger.Page{Limit: 20}, Account: c.Account, Client: c.Client, Server: c.Server, Live: s.o.Now()})
	if err != nil {
		return Grant{}, err
	}
	for _, g := range list {
		if g.Key != "" || g.Person != "" || g.Environment != c.Environment {
			continue
		}
		if slices.Equal(g.Scopes, c.Scopes) {
			return g, nil
		}
		if err := s.end(ctx, actor, g.ID, "the config has given the client other scopes"); err != nil {
			return Grant{}, err
		}
	}
	return s.Approve(ctx, actor, c)
}
