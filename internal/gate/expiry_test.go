package gate

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"

	"github.com/fareboxhq/farebox/internal/clock"
)

// fixed is a Keys that finds only the keys in the map.
type fixed map[keys.Digest]*keys.Key

func (f fixed) Lookup(_ context.Context, _ netip.Addr, d keys.Digest) (*keys.Key, error) {
	if k, ok := f[d]; ok {
		return k, nil
	}
	return nil, keys.ErrUnknown
}

// TestKeyExpiresAtItsInstant checks that a key is accepted up to the instant of its
// expiry and refused as expired from then on. A key that was also deleted or
// disabled is never reported as merely expired. The test runs on the clock of a
// synctest bubble.
func TestKeyExpiresAtItsInstant(t *testing.T) {
	for name, kind := range map[string]keys.Kind{"agent": keys.Agent, "personal": keys.Personal} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const life = 183 * 24 * time.Hour
				secret := keys.Mint(kind, keys.Live)
				key := &keys.Key{ID: "key_1", Kind: kind, Environment: keys.Live, Scopes: []string{keys.ScopeConnect}, Digest: keys.DigestOf(secret), ExpiresAt: clock.Now().Add(life)}
				g := New(Policy{Server: "s", Secrets: &keys.DefaultFormat}, Deps{Keys: fixed{key.Digest: key}, Now: clock.Now})
				var stream *Caller
				expect := func(when string, code Code) {
					t.Helper()
					caller, refusal := g.Authenticate(t.Context(), netip.Addr{}, []string{"Bearer " + secret})
					if refusal == nil && code != "" || refusal != nil && refusal.Code != code {
						t.Errorf("%s: %v; want %q", when, refusal, code)
					}
					if stream == nil {
						stream = &caller
					}
					// A stream that is already open must be refused exactly when a new
					// request is.
					if _, streaming := stream.AgainFor(t.Context(), ListenerTicket()); (streaming == nil) != (refusal == nil) {
						t.Errorf("%s: a stream gets %v, a request %v", when, streaming, refusal)
					}
				}
				expect("new", "")
				time.Sleep(life - time.Nanosecond) // advances the bubble's clock
				expect("in its last nanosecond", "")
				time.Sleep(time.Nanosecond)
				expect("at its instant", TokenExpired)
				time.Sleep(100 * 365 * 24 * time.Hour)
				expect("long after", TokenExpired)
				key.DisabledAt = clock.Now()
				expect("disabled, too", TokenInvalid)
				key.DeletedAt = clock.Now()
				expect("deleted, too", TokenInvalid)
			})
		})
	}
}

// TestStreamNeedsItsScopes checks that AgainFor refuses a stream after its key has
// lost the scope that a rule requires for the stream's request. A scope that
// includes the required one is enough. A stream that needs no scope goes on.
func TestStreamNeedsItsScopes(t *testing.T) {
	b := newLibrary(t, "base")
	secret := keys.Mint(keys.Personal, keys.Live)
	key := &keys.Key{ID: "key_1", Lineage: "key_1", Account: b.payer.ID, Kind: keys.Personal, Environment: keys.Live, Scopes: []string{"read"}, Digest: keys.DigestOf(secret)}
	b.deps.Keys = fixed{key.Digest: key}
	caller := b.callerOf(t, secret)
	m, err := mcp.Decode([]byte(request("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["docs://a"]}}`)))
	if err != nil {
		t.Fatal(err)
	}
	call, refusal := b.Admit(t.Context(), caller, mcp.EraStateless, &m)
	if refusal != nil {
		t.Fatal(refusal)
	}
	ticket := call.Ticket(&m)
	for scopes, code := range map[string]Code{"read": "", "all": "", "write": ScopeInsufficient, "agent:connect": ScopeInsufficient} {
		key.Scopes = []string{scopes}
		_, refusal := caller.AgainFor(t.Context(), ticket)
		if refusal == nil && code != "" || refusal != nil && (refusal.Code != code || refusal.Tool != "method:subscriptions/listen") {
			t.Errorf("with %s: %v; want %q", scopes, refusal, code)
		}
		if _, refusal := caller.AgainFor(t.Context(), ListenerTicket()); refusal != nil {
			t.Errorf("with %s, a stream that needs none: %v", scopes, refusal)
		}
	}
}
