package gate

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// callerFor returns the caller of a key without authenticating it.
func callerFor(k *keys.Key) *Caller {
	c := CallerOf(k)
	return &c
}

// wristbands is an Authenticator for a made-up kind of credential: the text "band:"
// followed by a name. To support another kind of credential, a program adds a type
// like this one to Deps.Authenticators.
type wristbands struct {
	sold map[string]Caller
	err  error // if not nil, the error of every check
}

func (w *wristbands) Authenticate(ctx context.Context, client netip.Addr, token string) (Caller, error) {
	name, ok := strings.CutPrefix(token, "band:")
	if !ok {
		return Caller{}, ErrOtherCredential
	}
	return w.Again(ctx, client, &Caller{Subject: name})
}

func (w *wristbands) Again(_ context.Context, _ netip.Addr, c *Caller) (Caller, error) {
	now, ok := w.sold[c.Subject]
	if !ok || w.err != nil {
		return Caller{}, cmp.Or(w.err, keys.ErrUnknown)
	}
	return now, nil
}

// newFair returns a bench that also admits wristbands. The only wristband sold is
// the one for "ada".
func newFair(t *testing.T) (*bench, *wristbands) {
	t.Helper()
	b := newBench(t)
	bands := &wristbands{sold: map[string]Caller{"ada": {
		Subject: "ada", Account: b.payer.ID, Lineage: "ada", Environment: keys.Live, Connect: true, Handle: keys.DigestOf("ada"),
	}}}
	deps := b.deps
	deps.Authenticators = []Authenticator{bands}
	b.Gate = New(b.policy, deps)
	return b, bands
}

// TestFurtherCredential checks a made-up kind of credential. Its callers are admitted,
// charged to their own account and checked again, like those with a stored key. Stored
// keys still work.
func TestFurtherCredential(t *testing.T) {
	b, bands := newFair(t)
	watched := make(chan struct{}, 1)
	b.deps.Watch = func(d keys.Digest) Watch {
		if d != keys.DigestOf("ada") {
			t.Errorf("watches %x", d)
		}
		return Watch{Changed: watched, End: func() {}}
	}
	call, refusal := b.call(t, "band:ada", toolCall("cheap"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if fields, refusal := call.Settle(t.Context(), mcp.OutcomeResult, nil); refusal != nil || len(fields) != 2 {
		t.Fatalf("settled: %v, %v", fields, refusal)
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) || call.order.Key != "ada" || call.order.Lineage != "ada" {
		t.Errorf("balance %+v, order %+v", got, call.order)
	}
	if call, refusal := b.call(t, b.key(t, nil), toolCall("free")); refusal != nil || call.Paid() {
		t.Errorf("a stored key: %v", refusal)
	}

	caller := b.callerOf(t, "band:ada")
	watch := caller.Changed()
	defer watch.End()
	delete(bands.sold, "ada")
	watched <- struct{}{}
	<-watch.Changed
	if again, refusal := caller.Again(t.Context()); refusal == nil || refusal.Code != TokenInvalid || again.Known() {
		t.Errorf("a wristband that was taken back: %+v, %v", again, refusal)
	}
}

// TestFurtherCredentialIsChecked checks that the gate itself enforces expiry,
// environment and servers for every caller, so that no Authenticator can forget to.
// An Authenticator that fails or returns no caller admits no one.
func TestFurtherCredentialIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		token  string
		change func(*Caller)
		err    error
		code   Code
	}{
		"good":              {"band:ada", nil, nil, ""},
		"unknown":           {"band:eve", nil, nil, TokenInvalid},
		"of no kind":        {"band", nil, nil, TokenInvalid},
		"expired":           {"band:ada", func(c *Caller) { c.ExpiresAt = now }, nil, TokenExpired},
		"not yet expired":   {"band:ada", func(c *Caller) { c.ExpiresAt = now.Add(time.Hour) }, nil, ""},
		"test environment":  {"band:ada", func(c *Caller) { c.Environment = keys.Test }, nil, TokenInvalid},
		"no environment":    {"band:ada", func(c *Caller) { c.Environment = "" }, nil, TokenInvalid},
		"another server":    {"band:ada", func(c *Caller) { c.Servers = []string{"mail"} }, nil, TokenInvalid},
		"this server":       {"band:ada", func(c *Caller) { c.Servers = []string{"weather"} }, nil, ""},
		"a flood":           {"band:ada", nil, ErrFlood, RateLimited},
		"without account":   {"band:ada", nil, ErrNoAccount, AccountUnknown},
		"an outage":         {"band:ada", nil, errors.New("no answer"), StoreUnavailable},
		"disabled, unnamed": {"band:ada", nil, keys.ErrDisabled, StoreUnavailable},
		"nobody":            {"band:ada", func(c *Caller) { *c = Caller{} }, nil, StoreUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b, bands := newFair(t)
			b.policy.Environments = []keys.Environment{keys.Live}
			valid := b.callerOf(t, "band:ada")
			if ada := bands.sold["ada"]; c.change != nil {
				c.change(&ada)
				bands.sold["ada"] = ada
			}
			bands.err = c.err
			_, refusal := b.Redeem(t.Context(), netip.Addr{}, c.token)
			if got := codeOf(refusal); got != c.code {
				t.Errorf("got %v, want %q", refusal, c.code)
			}
			if _, refusal := valid.Again(t.Context()); c.token == "band:ada" && codeOf(refusal) != c.code {
				t.Errorf("again: %v, want %q", refusal, c.code)
			}
		})
	}
	if _, refusal := new(Caller).Again(t.Context()); refusal == nil || refusal.Code != TokenMissing {
		t.Errorf("nobody: %v", refusal)
	}
}

// TestFurtherCredentialNeedsScopes checks that a credential without agent:connect
// cannot be charged.
func TestFurtherCredentialNeedsScopes(t *testing.T) {
	b, bands := newFair(t)
	ada := bands.sold["ada"]
	ada.Connect, ada.Scopes = false, []string{"agent:connect"} // the scope's name alone does not allow charges
	bands.sold["ada"] = ada
	if _, refusal := b.call(t, "band:ada", toolCall("cheap")); codeOf(refusal) != ScopeInsufficient {
		t.Errorf("got %v", refusal)
	}
}

// TestCallersDoNotAllocate checks that authenticating a stored key and checking it
// again allocate nothing.
func TestCallersDoNotAllocate(t *testing.T) {
	secret := keys.Mint(keys.Agent, keys.Live)
	key := &keys.Key{ID: "key_1", Kind: keys.Agent, Environment: keys.Live, Digest: keys.DigestOf(secret), Scopes: []string{"read"}}
	g := New(Policy{Server: "s", Secrets: &keys.DefaultFormat, Environments: []keys.Environment{keys.Live}}, Deps{Keys: fixed{key.Digest: key}, Now: clock.Now})
	ctx, header, ticket := t.Context(), []string{"Bearer " + secret}, ListenerTicket()
	caller := new(Caller)
	var refusal *Refusal
	if n := testing.AllocsPerRun(100, func() {
		if *caller, refusal = g.Authenticate(ctx, netip.Addr{}, header); refusal == nil {
			*caller, refusal = caller.AgainFor(ctx, ticket)
		}
	}); n != 0 || refusal != nil {
		t.Errorf("%v allocations, %v", n, refusal)
	}
}
