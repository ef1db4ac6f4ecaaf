package keys

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

var (
	now     = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	earlier = now.Add(-time.Nanosecond)
	later   = now.Add(time.Nanosecond)
)

// impliedScopes are the scopes that the kinds of keys imply.
var impliedScopes = []string{ScopeConnect, ScopeCharge, ScopeLookup, ScopeAdmin}

// mayWithout maps each kind to the scope that its keys carry without naming it.
var mayWithout = map[Kind]string{Agent: ScopeConnect, Provider: ScopeCharge, Gateway: ScopeLookup, Admin: ScopeAdmin}

// expected implements the rules of Check a second time. It returns all reasons to
// refuse the key, in the order in which the errors are declared. If it returns no
// reason, the key is valid.
func expected(k *Key, use Use) []error {
	var reasons []error
	add := func(applies bool, reason error) {
		if applies {
			reasons = append(reasons, reason)
		}
	}
	decidesKind := slices.Contains(impliedScopes, use.Scope)
	lacks := use.Scope != "" && use.Scope != mayWithout[k.Kind] && !slices.Contains(k.Scopes, use.Scope)
	add(!k.DeletedAt.IsZero(), ErrDeleted)
	add(!k.DisabledAt.IsZero(), ErrDisabled)
	add(!k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now), ErrExpired)
	add(lacks && decidesKind, ErrKind)
	add(len(use.Environments) > 0 && !slices.Contains(use.Environments, k.Environment), ErrEnvironment)
	add(use.Server != "" && len(k.Servers) > 0 && !slices.Contains(k.Servers, use.Server), ErrServer)
	add(lacks && !decidesKind, ErrScope)
	return reasons
}

// TestCheckTable checks, for every combination of kind, state, scope, server and
// environment, that Check returns the first reason that applies.
func TestCheckTable(t *testing.T) {
	times := []time.Time{{}, earlier, now, later}
	scopes := append([]string{"", "billing.read", "billing.write"}, impliedScopes...)
	checked := 0
	for kind := Agent; kind <= Admin; kind++ {
		for state := range 2 * 2 * len(times) {
			for _, scope := range scopes {
				for place := range 3 * 3 * 3 {
					key := &Key{Kind: kind, Environment: Live, Scopes: []string{"billing.read"}, ExpiresAt: times[state/4]}
					if kind == Personal {
						key.Scopes = append(key.Scopes, ScopeConnect)
					}
					if state&1 != 0 {
						key.DeletedAt = earlier
					}
					if state&2 != 0 {
						key.DisabledAt = earlier
					}
					key.Servers = [][]string{nil, {"weather"}, {"maps", "weather"}}[place%3]
					use := Use{
						Scope:        scope,
						Server:       []string{"", "weather", "maps"}[place/3%3],
						Environments: [][]Environment{nil, {Live, Test}, {Test}}[place/9],
					}
					var want error
					if reasons := expected(key, use); len(reasons) > 0 {
						want = reasons[0]
					}
					if got := key.Check(now, use); !errors.Is(got, want) {
						t.Fatalf("%+v for %+v: %v, want %v", *key, use, got, want)
					}
					checked++
				}
			}
		}
	}
	if checked != 5*16*7*27 {
		t.Errorf("%d cases", checked)
	}
}

// TestCheckGivesTheFirstReason takes a key that is wrong in every way and corrects one
// fault after another. Check reports the faults in the order in which the errors are
// declared. ErrServer comes before ErrScope, so a key that may not call a server never
// learns which scope it would need there.
func TestCheckGivesTheFirstReason(t *testing.T) {
	key := &Key{
		Kind: Provider, Environment: Test, Servers: []string{"maps"},
		DeletedAt: earlier, DisabledAt: earlier, ExpiresAt: earlier,
	}
	use := Use{Scope: ScopeConnect, Server: "weather", Environments: []Environment{Live}}
	for _, step := range []struct {
		want error
		mend func()
	}{
		{ErrDeleted, func() { key.DeletedAt = time.Time{} }},
		{ErrDisabled, func() { key.DisabledAt = time.Time{} }},
		{ErrExpired, func() { key.ExpiresAt = later }},
		{ErrKind, func() { key.Kind, use.Scope = Agent, "billing.write" }},
		{ErrEnvironment, func() { key.Environment = Live }},
		{ErrServer, func() { key.Servers = append(key.Servers, "weather") }},
		{ErrScope, func() { key.Scopes = []string{"billing.write"} }},
		{nil, func() {}},
	} {
		if got := key.Check(now, use); !errors.Is(got, step.want) {
			t.Errorf("%v, want %v", got, step.want)
		}
		step.mend()
	}
}

// TestKindNeverPassesForAnother: if a kind implies a scope, keys of other kinds do not
// carry that scope, even if they name it (OWASP ASVS 5.0, 9.2.2). Personal keys are the
// exception: they carry every scope that they name.
func TestKindNeverPassesForAnother(t *testing.T) {
	for kind := Agent; kind <= Admin; kind++ {
		for _, scope := range impliedScopes {
			key := &Key{Kind: kind, Environment: Live}
			t.Run(fmt.Sprintf("%v for %s", kind, scope), func(t *testing.T) {
				var want error
				if mayWithout[kind] != scope {
					want = ErrKind
				}
				if got := key.Check(now, Use{Scope: scope}); !errors.Is(got, want) {
					t.Errorf("without naming it: %v, want %v", got, want)
				}
				if kind == Personal {
					return
				}
				key.Scopes = []string{scope}
				if got := key.Check(now, Use{Scope: scope}); !errors.Is(got, want) {
					t.Errorf("naming it: %v, want %v", got, want)
				}
			})
		}
	}
}

// TestPersonalKeysConnectOnlyByName: a personal key can be charged only if it names
// agent:connect.
func TestPersonalKeysConnectOnlyByName(t *testing.T) {
	key := &Key{Kind: Personal, Scopes: []string{"billing.read"}}
	if err := key.Check(now, Use{Scope: ScopeConnect}); !errors.Is(err, ErrKind) {
		t.Errorf("without the scope: %v", err)
	}
	key.Scopes = append(key.Scopes, ScopeConnect)
	if err := key.Check(now, Use{Scope: ScopeConnect}); err != nil {
		t.Errorf("with the scope: %v", err)
	}
}

// TestExpiryIsAnInstant: a key is valid until the nanosecond before ExpiresAt, in
// any time zone.
func TestExpiryIsAnInstant(t *testing.T) {
	key := &Key{Kind: Agent, ExpiresAt: now.In(time.FixedZone("far", 14*3600))}
	for at, want := range map[time.Time]error{earlier: nil, now: ErrExpired, later: ErrExpired} {
		if err := key.Check(at, Use{}); !errors.Is(err, want) {
			t.Errorf("at %v: %v, want %v", at, err, want)
		}
	}
}

// TestDeletionAndDisablingHoldAtAnyTime: a clock that is slow does not revive a
// deleted or disabled key.
func TestDeletionAndDisablingHoldAtAnyTime(t *testing.T) {
	for _, at := range []time.Time{earlier, now, later} {
		if err := (&Key{Kind: Agent, DeletedAt: later}).Check(at, Use{}); !errors.Is(err, ErrDeleted) {
			t.Errorf("deleted: %v", err)
		}
		if err := (&Key{Kind: Agent, DisabledAt: later}).Check(at, Use{}); !errors.Is(err, ErrDisabled) {
			t.Errorf("disabled: %v", err)
		}
	}
}

// TestCheckDoesNotAllocate: Check allocates nothing, whether it accepts or refuses.
func TestCheckDoesNotAllocate(t *testing.T) {
	key := &Key{Kind: Agent, Environment: Live, Scopes: []string{"billing.read"}, Servers: []string{"weather"}, ExpiresAt: later}
	use := Use{Scope: "billing.read", Server: "weather", Environments: []Environment{Test, Live}}
	for _, u := range []Use{use, {}, {Scope: ScopeAdmin}, {Scope: "x"}, {Server: "x"}, {Environments: []Environment{Test}}} {
		if n := testing.AllocsPerRun(1000, func() { _ = key.Check(now, u) }); n != 0 {
			t.Errorf("%+v: %v allocations", u, n)
		}
	}
}

// TestReasonsAreApart: every reason to refuse a key has a text, and no two texts are
// equal.
func TestReasonsAreApart(t *testing.T) {
	reasons := []error{ErrMalformed, ErrUnknown, ErrDeleted, ErrDisabled, ErrExpired, ErrKind, ErrEnvironment, ErrServer, ErrScope}
	seen := make(map[string]bool)
	for _, r := range reasons {
		if r.Error() == "" || seen[r.Error()] {
			t.Errorf("reason %q is not its own", r)
		}
		seen[r.Error()] = true
	}
}
