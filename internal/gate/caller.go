package gate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Caller is an authenticated client of a server: an account with its rights and limits,
// whichever kind of credential it has shown. The zero Caller stands for an
// unauthenticated client. A Caller does not change; Again returns a new Caller.
type Caller struct {
	Subject     string           // id of the credential in orders and logs, such as a key's id
	Account     string           // the account that pays, and that owns sessions and tasks
	Lineage     string           // shared by a credential and its rotated successors; rates and caps count by lineage
	Environment keys.Environment // live or test
	Connect     bool             // carries keys.ScopeConnect, which every charge requires
	Scopes      []string         // scopes that the caller carries by name
	Servers     []string         // servers that the caller may call; empty means all
	Limits      *keys.Limits     // rate and spending limits of the caller; nil for no limits
	ExpiresAt   time.Time        // the caller is expired from this instant on; zero for never
	Proof       *string          // see keys.Key.Proof
	Client      string           // the program that has got the credential, as an issuer names it; "" if unknown

	// Handle is the digest under which changes of the caller are announced. For a
	// stored key it is the digest of the secret.
	Handle keys.Digest
	// Key is the stored key that was shown; nil with other credentials.
	Key *keys.Key

	// FreshUntil is the time until which the caller was found to be valid, if nothing
	// announces that it has become invalid. Streams check the caller again at that time.
	// It is zero for callers that need no such check.
	FreshUntil time.Time
	// Evidence belongs to the Authenticator, which finds it again in Rechecker.Again.
	Evidence any

	gate   *Gate
	auth   Authenticator
	client netip.Addr
}

// Authenticator recognizes one kind of credential.
type Authenticator interface {
	// Authenticate returns the caller that a bearer token identifies. The client is the
	// address that sent the token. ErrOtherCredential passes the token on to the next
	// Authenticator. Any other error refuses the token: keys.ErrUnknown as invalid,
	// ErrNoAccount as one without an account, ErrFlood as rate-limited, and all others
	// because the lookup failed. With an
	// error, the returned caller is usually zero. But a caller that is known and may
	// not be used is returned together with the error: keys.ErrExpired for an expired
	// caller, and any other error for an invalid caller.
	Authenticate(ctx context.Context, client netip.Addr, token string) (Caller, error)
}

// Rechecker is implemented by an Authenticator if its callers can change or become
// invalid before they expire.
type Rechecker interface {
	// Again returns the caller as it is now. Its errors are those of Authenticate.
	Again(ctx context.Context, client netip.Addr, c *Caller) (Caller, error)
}

// ErrOtherCredential reports that a token is not the kind of credential that an
// Authenticator recognizes.
var ErrOtherCredential = errors.New("not a credential of this kind")

// ErrNoAccount reports that a credential is valid, but that there is no account from which
// its holder could pay.
var ErrNoAccount = errors.New("there is no account for this credential")

// Watch reports changes of a caller until End is called.
type Watch struct {
	Changed <-chan struct{} // receives a value when the caller may have changed
	Closing <-chan struct{} // closed when all streams must end
	End     func()
}

// Known reports whether the credential was recognized. It is false for the zero
// Caller.
func (c *Caller) Known() bool { return c.Subject != "" }

// HasScope reports whether the caller carries the scope itself. Another scope that
// includes this scope does not count.
func (c *Caller) HasScope(scope string) bool {
	if scope == keys.ScopeConnect {
		return c.Connect
	}
	return slices.Contains(c.Scopes, scope)
}

// Again checks that the caller may still call its server. It returns the caller's
// current state, or a refusal.
func (c *Caller) Again(ctx context.Context) (Caller, *Refusal) {
	if c.gate == nil {
		return Caller{}, &Refusal{Code: TokenMissing}
	}
	again, err := *c, error(nil)
	if r, ok := c.auth.(Rechecker); ok {
		again, err = r.Again(ctx, c.client, c)
	}
	return c.gate.accept(again, err, c.auth, c.client)
}

// AgainFor is Again for a stream that is being served: the caller must also carry
// the scopes of the stream's request. Call AgainFor whenever the caller changes.
func (c *Caller) AgainFor(ctx context.Context, t *Ticket) (Caller, *Refusal) {
	again, refusal := c.Again(ctx)
	if refusal == nil {
		refusal = again.gate.permitTicket(&again, t)
	}
	return again, refusal
}

// Changed watches the caller for changes. Call Again after each change. The Watch does
// not report that the caller has expired.
func (c *Caller) Changed() Watch { return c.gate.deps.Watch(c.Handle) }

// proof returns the platform's proof of a key, or "" if there is no proof.
func (c *Caller) proof() string {
	if c.Proof == nil {
		return ""
	}
	return *c.Proof
}

// accept takes a caller or an error that auth has returned, and applies the rules that
// are the same for all kinds of credentials.
func (g *Gate) accept(c Caller, err error, auth Authenticator, client netip.Addr) (Caller, *Refusal) {
	if err == nil && c.Known() {
		err = g.checkCaller(&c)
	}
	switch {
	case !c.Known() && (errors.Is(err, keys.ErrUnknown) || errors.Is(err, ErrOtherCredential)):
		return Caller{}, &Refusal{Code: TokenInvalid, Cause: err}
	case !c.Known() && errors.Is(err, ErrNoAccount):
		return Caller{}, &Refusal{Code: AccountUnknown, Cause: err}
	case !c.Known() && errors.Is(err, ErrFlood):
		return Caller{}, &Refusal{Code: RateLimited, Cause: err}
	case !c.Known(): // the lookup failed, or auth returned neither a caller nor an error
		return Caller{}, &Refusal{Code: StoreUnavailable, Cause: err}
	}
	c.gate, c.auth, c.client = g, auth, client
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, keys.ErrExpired):
		return c, &Refusal{Code: TokenExpired, Cause: err}
	}
	return c, &Refusal{Code: TokenInvalid, Cause: err}
}

func (g *Gate) checkCaller(c *Caller) error {
	switch {
	case !c.ExpiresAt.IsZero() && !g.deps.Now().Before(c.ExpiresAt):
		return keys.ErrExpired
	case len(g.policy.Environments) > 0 && !slices.Contains(g.policy.Environments, c.Environment):
		return keys.ErrEnvironment
	case len(c.Servers) > 0 && !slices.Contains(c.Servers, g.policy.Server):
		return keys.ErrServer
	}
	return nil
}

// storedKeys is the Authenticator of the keys in the gate's store.
type storedKeys struct{ gate *Gate }

// Authenticate looks a key up by its secret. A token with a wrong form or checksum
// costs no lookup.
func (s *storedKeys) Authenticate(ctx context.Context, client netip.Addr, token string) (Caller, error) {
	digest, err := s.gate.policy.Secrets.Parse(token)
	if err != nil {
		return Caller{}, errNoKey
	}
	return s.lookUp(ctx, client, digest)
}

// Again looks up the caller's key again.
func (s *storedKeys) Again(ctx context.Context, client netip.Addr, c *Caller) (Caller, error) {
	return s.lookUp(ctx, client, c.Handle)
}

// errNoKey matches both keys.ErrMalformed and ErrOtherCredential in errors.Is.
var errNoKey = otherCredential{keys.ErrMalformed}

// otherCredential wraps an error so that errors.Is also matches it with
// ErrOtherCredential.
type otherCredential struct{ error }

func (otherCredential) Is(target error) bool { return target == ErrOtherCredential }

func (e otherCredential) Unwrap() error { return e.error }

// callers lists the kinds of keys that may call servers. A key's scopes limit which
// items it may call.
var callers = keys.PayingKinds()

func (s *storedKeys) lookUp(ctx context.Context, client netip.Addr, digest keys.Digest) (Caller, error) {
	key, err := s.gate.deps.Keys.Lookup(ctx, client, digest)
	if err != nil {
		return Caller{}, err
	}
	return CallerOf(key), key.Check(s.gate.deps.Now(), keys.Use{Kinds: callers})
}

// CallerOf returns the caller that a stored key stands for, without any check.
// Again refuses such a caller, because only authentication ties a caller to a gate.
func CallerOf(k *keys.Key) Caller {
	return Caller{
		Subject: k.ID, Account: k.Account, Lineage: k.Lineage, Environment: k.Environment,
		Connect: k.HasScope(keys.ScopeConnect), Scopes: k.Scopes, Servers: k.Servers, Limits: k.Limits,
		ExpiresAt: k.ExpiresAt, Proof: k.Proof, Handle: k.Digest, Key: k,
	}
}
