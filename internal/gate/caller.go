package gate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Caller is an authenticated client of a server: an account with its rights and
// limits, whichever kind of credential it has shown. The zero Caller stands for no one.
// A Caller does not change; Again returns a new one.
type Caller struct {
	Subject     string           // names the credential in orders and logs, such as a key's id
	Account     string           // pays, and owns sessions and tasks
	Lineage     string           // shared with the credential's predecessors and successors: rates and caps go by it
	Environment keys.Environment //
	Connect     bool             // carries keys.ScopeConnect, which every charge requires
	Scopes      []string         // carried by name
	Servers     []string         // servers it may call; empty means all
	Limits      *keys.Limits     // nil for none
	ExpiresAt   time.Time        // expired from this instant on; zero for never
	Proof       *string          // see keys.Key.Proof

	// Handle is the digest under which changes of the caller are announced: for a
	// stored key, that of its secret.
	Handle keys.Digest
	// Key is the stored key that was shown; nil with other credentials.
	Key *keys.Key

	gate   *Gate
	auth   Authenticator
	client netip.Addr
}

// Authenticator recognizes one kind of credential.
type Authenticator interface {
	// Authenticate returns the caller that a bearer token identifies, on behalf of
	// a client's address. ErrOtherCredential leaves the token to the next
	// Authenticator. Any other error refuses it: keys.ErrUnknown as invalid,
	// ErrFlood for a while, and all others because the answer is not known. With
	// an error the caller is zero, unless the error is the reason why a known
	// caller may not be used: keys.ErrExpired, or any other one as invalid.
	Authenticate(ctx context.Context, client netip.Addr, token string) (Caller, error)
}

// Rechecker is an Authenticator whose callers can end or change before they
// expire.
type Rechecker interface {
	// Again returns the caller as it is now, with the errors of Authenticate.
	Again(ctx context.Context, client netip.Addr, c *Caller) (Caller, error)
}

// ErrOtherCredential says that a token is not of an Authenticator's kind.
var ErrOtherCredential = errors.New("not a credential of this kind")

// Watch reports changes of a caller until End is called.
type Watch struct {
	Changed <-chan struct{} // receives when the caller may have changed
	Closing <-chan struct{} // closed when all streams must end
	End     func()
}

// Known is false for the zero Caller.
func (c *Caller) Known() bool { return c.Subject != "" }

// HasScope reports whether the caller carries the scope itself, as opposed to one
// that includes it.
func (c *Caller) HasScope(scope string) bool {
	if scope == keys.ScopeConnect {
		return c.Connect
	}
	return slices.Contains(c.Scopes, scope)
}

// Again checks that the caller may still call its server, and returns it as it is
// now.
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
// the scopes of the stream's request. Repeat it whenever the caller changes.
func (c *Caller) AgainFor(ctx context.Context, t *Ticket) (Caller, *Refusal) {
	again, refusal := c.Again(ctx)
	if refusal == nil {
		refusal = again.gate.permitTicket(&again, t)
	}
	return again, refusal
}

// Changed reports changes of the caller: after each, ask Again. A caller does not
// report its expiry.
func (c *Caller) Changed() Watch { return c.gate.deps.Watch(c.Handle) }

// proof returns the platform's proof of a key, "" without one.
func (c *Caller) proof() string {
	if c.Proof == nil {
		return ""
	}
	return *c.Proof
}

// accept applies the rules for callers of every kind to one that auth has
// returned.
func (g *Gate) accept(c Caller, err error, auth Authenticator, client netip.Addr) (Caller, *Refusal) {
	if err == nil && c.Known() {
		err = g.checkCaller(&c)
	}
	switch {
	case !c.Known() && (errors.Is(err, keys.ErrUnknown) || errors.Is(err, ErrOtherCredential)):
		return Caller{}, &Refusal{Code: TokenInvalid, Cause: err}
	case !c.Known() && errors.Is(err, ErrFlood):
		return Caller{}, &Refusal{Code: RateLimited, Cause: err}
	case !c.Known(): // also without an error
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

// storedKeys authenticates by the keys of the gate's store.
type storedKeys struct{ gate *Gate }

// Authenticate looks a key up by its secret. A token whose form or checksum is
// wrong costs no lookup.
func (s *storedKeys) Authenticate(ctx context.Context, client netip.Addr, token string) (Caller, error) {
	digest, err := s.gate.policy.Secrets.Parse(token)
	if err != nil {
		return Caller{}, errNoKey
	}
	return s.lookUp(ctx, client, digest)
}

// Again looks the caller's key up.
func (s *storedKeys) Again(ctx context.Context, client netip.Addr, c *Caller) (Caller, error) {
	return s.lookUp(ctx, client, c.Handle)
}

// errNoKey is keys.ErrMalformed, and leaves the token to other Authenticators.
var errNoKey = otherCredential{keys.ErrMalformed}

// otherCredential is an error that is also ErrOtherCredential.
type otherCredential struct{ error }

func (otherCredential) Is(target error) bool { return target == ErrOtherCredential }

func (e otherCredential) Unwrap() error { return e.error }

// callers are the kinds of keys that may call servers. Their scopes limit which
// items they may call.
var callers = keys.PayingKinds()

func (s *storedKeys) lookUp(ctx context.Context, client netip.Addr, digest keys.Digest) (Caller, error) {
	key, err := s.gate.deps.Keys.Lookup(ctx, client, digest)
	if err != nil {
		return Caller{}, err
	}
	return CallerOf(key), key.Check(s.gate.deps.Now(), keys.Use{Kinds: callers})
}

// CallerOf returns the caller that a stored key stands for. It checks nothing and
// cannot be asked Again: only authentication makes callers that can.
func CallerOf(k *keys.Key) Caller {
	return Caller{
		Subject: k.ID, Account: k.Account, Lineage: k.Lineage, Environment: k.Environment,
		Connect: k.HasScope(keys.ScopeConnect), Scopes: k.Scopes, Servers: k.Servers, Limits: k.Limits,
		ExpiresAt: k.ExpiresAt, Proof: k.Proof, Handle: k.Digest, Key: k,
	}
}
