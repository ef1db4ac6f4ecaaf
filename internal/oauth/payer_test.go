package oauth_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// amount returns a pointer to an amount of the currency's units.
func amount(units float64) *ledger.Amount { return new(ledger.Amount(units * float64(ledger.Unit))) }

// TestGrantEndsWithItsKey: after an operation that ends or narrows a key has returned, no
// lookup accepts a token of the grants that the key has given. An operation that leaves
// the key the rights of its grants ends none.
func TestGrantEndsWithItsKey(t *testing.T) {
	rate := "60/1m"
	for name, c := range map[string]struct {
		key    admin.NewKey
		change func(w *world, id string) error
		lives  bool
	}{
		"deleted":  {change: func(w *world, id string) error { _, err := w.admin.DeleteKey(w.Context(), operator, id); return err }},
		"disabled": {change: func(w *world, id string) error { _, err := w.admin.DisableKey(w.Context(), operator, id); return err }},
		"rotated": {change: func(w *world, id string) error {
			_, _, err := w.admin.RotateKey(w.Context(), operator, id, admin.Rotation{Grace: "24h"})
			return err
		}},
		"fewer scopes":     {change: update(admin.KeyChange{Scopes: &[]string{"read"}})},
		"no scopes":        {change: update(admin.KeyChange{Scopes: &[]string{}})},
		"another server":   {change: update(admin.KeyChange{Servers: &[]string{"maps"}, Force: true})},
		"a cap":            {change: update(admin.KeyChange{Caps: &admin.Caps{Day: amount(1)}})},
		"a lower cap":      {key: admin.NewKey{Caps: &admin.Caps{Day: amount(2)}}, change: update(admin.KeyChange{Caps: &admin.Caps{Day: amount(1)}})},
		"another cap":      {key: admin.NewKey{Caps: &admin.Caps{Day: amount(2)}}, change: update(admin.KeyChange{Caps: &admin.Caps{Month: amount(5)}})},
		"a rate":           {change: update(admin.KeyChange{Rate: &rate})},
		"an end":           {change: update(admin.KeyChange{ExpiresIn: new("24h")})},
		"an earlier end":   {key: admin.NewKey{ExpiresIn: "48h"}, change: update(admin.KeyChange{ExpiresIn: new("24h")})},
		"another name":     {change: update(admin.KeyChange{Name: new("laptop")}), lives: true},
		"an including one": {change: update(admin.KeyChange{Scopes: &[]string{"all"}}), lives: true},
		"the same server":  {change: update(admin.KeyChange{Servers: &[]string{"maps", "weather"}, Force: true}), lives: true},
		"a later end":      {key: admin.NewKey{ExpiresIn: "48h"}, change: update(admin.KeyChange{ExpiresIn: new("96h")}), lives: true},
		"a higher cap":     {key: admin.NewKey{Caps: &admin.Caps{Day: amount(2)}}, change: update(admin.KeyChange{Caps: &admin.Caps{Day: amount(3)}}), lives: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.key.Scopes = []string{"read", "write"}
			k, other := w.key(c.key), w.key(c.key)
			g, kept := w.grant(&k), w.grant(&other)
			tokens, keptTokens := []oauth.Tokens{w.tokens(&g), w.tokens(&g)}, w.tokens(&kept)
			w.alive(tokens[0].Access, tokens[1].Access)
			w.ok(c.change(w, k.ID))
			w.alive(keptTokens.Access)
			if c.lives {
				w.alive(tokens[0].Access, tokens[1].Access, w.refresh(tokens[0].Refresh).Access)
				return
			}
			w.revoked(&g, tokens...)
		})
	}
}

func update(c admin.KeyChange) func(*world, string) error {
	return func(w *world, id string) error { _, err := w.admin.UpdateKey(w.Context(), operator, id, c); return err }
}

// TestChangeOfKeyIsRepeated: if ending the grants fails after the key was changed, the
// operation returns an error, and its repetition ends them. So does a sweep if nobody
// repeats the operation.
func TestChangeOfKeyIsRepeated(t *testing.T) {
	for name, change := range map[string]func(*world, string) error{
		"deleted":  func(w *world, id string) error { _, err := w.admin.DeleteKey(w.Context(), operator, id); return err },
		"disabled": func(w *world, id string) error { _, err := w.admin.DisableKey(w.Context(), operator, id); return err },
		"narrowed": update(admin.KeyChange{Scopes: &[]string{}}),
	} {
		for _, sweep := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				k := w.key(admin.NewKey{Scopes: []string{"read"}})
				g := w.grant(&k)
				tokens := w.tokens(&g)
				w.admin.WithGrants(noGrants{})
				if err := change(w, k.ID); !errors.Is(err, errBoom) {
					t.Fatal(err)
				}
				w.alive(tokens.Access)
				w.admin.WithGrants(w.Service)
				if sweep {
					w.ok(w.Sweep(t.Context()))
				} else {
					w.ok(change(w, k.ID))
				}
				w.revoked(&g, tokens)
			})
		}
	}
}

// TestChangeWithoutSweep: after a key was narrowed, a refresh of its grant is refused and
// ends the grant, even if nobody else has ended it.
func TestChangeWithoutSweep(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{Scopes: []string{"read"}})
	g := w.grant(&k)
	tokens := w.tokens(&g)
	w.admin.WithGrants(noGrants{})
	if err := update(admin.KeyChange{Scopes: &[]string{}})(w, k.ID); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	_, err := w.Refresh(t.Context(), client, tokens.Refresh, nil, lives)
	w.refused(err, oauth.InvalidGrant)
	w.revoked(&g, tokens)
}

// TestPayers: only a key that can call the server can give a grant, with no more than its
// own rights. A token cannot, because its grants would outlive it.
func TestPayers(t *testing.T) {
	w := newWorld(t)
	person := w.grantOfPerson()
	tokens := w.tokens(&person)
	for name, c := range map[string]struct {
		id     func() string
		change func(*oauth.Consent)
		want   oauth.Code // "" for a grant
	}{
		"an agent key": {id: func() string { return w.key(admin.NewKey{}).ID }},
		"a personal key": {id: func() string {
			return w.key(admin.NewKey{Kind: "personal", Name: "x", Scopes: []string{keys.ScopeConnect}}).ID
		}},
		"an including scope":       {id: func() string { return w.key(admin.NewKey{Scopes: []string{"all"}}).ID }, change: func(c *oauth.Consent) { c.Scopes = []string{"write"} }},
		"a personal key of no use": {id: func() string { return w.key(admin.NewKey{Kind: "personal", Name: "x", Scopes: []string{"read"}}).ID }, want: oauth.AccessDenied},
		"a provider key":           {id: func() string { return w.key(admin.NewKey{Kind: "provider"}).ID }, want: oauth.AccessDenied},
		"a gateway key":            {id: func() string { return w.key(admin.NewKey{Kind: "gateway"}).ID }, want: oauth.AccessDenied},
		"an admin key":             {id: func() string { return w.key(admin.NewKey{Kind: "admin"}).ID }, want: oauth.AccessDenied},
		"a key for another server": {id: func() string { return w.key(admin.NewKey{Servers: []string{"maps"}, Force: true}).ID }, want: oauth.AccessDenied},
		"a scope that it lacks":    {id: func() string { return w.key(admin.NewKey{Scopes: []string{"read"}}).ID }, change: func(c *oauth.Consent) { c.Scopes = []string{"write"} }, want: oauth.AccessDenied},
		"a right of another kind":  {id: func() string { return w.key(admin.NewKey{}).ID }, change: func(c *oauth.Consent) { c.Scopes = []string{keys.ScopeAdmin} }, want: oauth.AccessDenied},
		"limits for a limited key": {id: func() string { return w.key(admin.NewKey{Caps: &admin.Caps{Day: amount(1)}}).ID }, change: func(c *oauth.Consent) { c.Limits = &keys.Limits{Day: 1} }, want: oauth.InvalidRequest},
		"limits below zero":        {id: func() string { return w.key(admin.NewKey{}).ID }, change: func(c *oauth.Consent) { c.Limits = &keys.Limits{Day: -1} }, want: oauth.InvalidRequest},
		"a key and a person":       {id: func() string { return w.key(admin.NewKey{}).ID }, change: func(c *oauth.Consent) { c.Person = "psn_1" }, want: oauth.InvalidRequest},
		"a server without a name":  {id: func() string { return w.key(admin.NewKey{}).ID }, change: func(c *oauth.Consent) { c.Server = "" }, want: oauth.InvalidRequest},
		"no client":                {id: func() string { return w.key(admin.NewKey{}).ID }, change: func(c *oauth.Consent) { c.Client = "" }, want: oauth.InvalidRequest},
		"too many scopes":          {id: func() string { return w.key(admin.NewKey{Scopes: []string{"read"}}).ID }, change: func(c *oauth.Consent) { c.Scopes = strings.Fields(strings.Repeat("read ", 65)) }, want: oauth.InvalidScope},
		"an access token":          {id: func() string { return w.id(tokens.Access) }, want: oauth.AccessDenied},
		"a refresh token":          {id: func() string { return w.id(tokens.Refresh) }, want: oauth.AccessDenied},
		"a key that was deleted": {id: func() string {
			return w.ended(func(id string) error { _, err := w.admin.DeleteKey(t.Context(), operator, id); return err })
		}, want: oauth.AccessDenied},
		"a key that was disabled": {id: func() string {
			return w.ended(func(id string) error { _, err := w.admin.DisableKey(t.Context(), operator, id); return err })
		}, want: oauth.AccessDenied},
		"a key that was rotated": {id: func() string {
			return w.ended(func(id string) error {
				_, _, err := w.admin.RotateKey(t.Context(), operator, id, admin.Rotation{Grace: "1h"})
				return err
			})
		}, want: oauth.AccessDenied},
		"a key that has expired": {id: func() string {
			return w.ended(func(id string) error { return update(admin.KeyChange{ExpiresIn: new("1ns")})(w, id) })
		}, want: oauth.AccessDenied},
		"a strange environment":     {change: func(c *oauth.Consent) { *c = w.personal(); c.Environment = "prod" }, want: oauth.InvalidRequest},
		"nobody, without a payer":   {change: func(c *oauth.Consent) { *c = w.personal(); c.Account = "" }, want: oauth.InvalidRequest},
		"a person, with everything": {change: func(c *oauth.Consent) { *c = w.personal() }},
	} {
		consent := w.consent(&keys.Key{Kind: keys.Agent})
		if c.id != nil {
			consent.Key = c.id()
		}
		if c.change != nil {
			c.change(&consent)
		}
		g, err := w.Approve(t.Context(), operator, consent)
		if c.want == "" && err != nil || c.want != "" && oauth.CodeOf(err) != c.want {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	consent := w.consent(&keys.Key{Kind: keys.Agent})
	consent.Key = "key_unknown"
	if _, err := w.Approve(t.Context(), operator, consent); !isMissing(err) {
		t.Errorf("an unknown key: %v", err)
	}
}

func isMissing(err error) bool {
	refused, ok := errors.AsType[*admin.Error](err)
	return ok && refused.Code == admin.NotFound
}

// id returns the id of the key with the secret.
func (w *world) id(secret string) string {
	w.Helper()
	k, err := w.store.KeyByDigest(w.Context(), keys.DigestOf(secret))
	w.ok(err)
	return k.ID
}

// ended returns the id of a key after the change.
func (w *world) ended(change func(id string) error) string {
	w.Helper()
	k := w.key(admin.NewKey{})
	w.ok(change(k.ID))
	return k.ID
}

// TestTokensAreNoOrdinaryKeys: nobody can create a token as a key, and no change gives a
// token other rights. A token can be deleted and disabled.
func TestTokensAreNoOrdinaryKeys(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	tokens := w.tokens(&g)
	for _, kind := range []string{"access", "refresh"} {
		if _, _, err := w.admin.CreateKey(t.Context(), operator, admin.NewKey{Account: "alice", Kind: kind}); err == nil {
			t.Errorf("a key of kind %s was created", kind)
		}
	}
	for _, secret := range []string{tokens.Access, tokens.Refresh} {
		id := w.id(secret)
		if err := update(admin.KeyChange{ExpiresIn: new("never")})(w, id); err == nil {
			t.Error("a token was changed")
		}
		if _, _, err := w.admin.RotateKey(t.Context(), operator, id, admin.Rotation{}); err == nil {
			t.Error("a token was rotated")
		}
		_, err := w.admin.DisableKey(t.Context(), operator, id)
		w.ok(err)
		if _, err := w.admin.EnableKey(t.Context(), operator, id); err == nil {
			t.Error("a token was enabled")
		}
	}
	w.dead(tokens.Access)
	_, err := w.Refresh(t.Context(), client, tokens.Refresh, nil, lives)
	w.refused(err, oauth.InvalidGrant)
	if k := w.key(admin.NewKey{}); w.faults.IssueToken(t.Context(), operator, k) == nil || w.faults.DeleteTokens(t.Context(), operator, []string{k.ID}) == nil {
		t.Error("an agent key passes as a token")
	}
	if _, _, err := w.admin.CreateKey(t.Context(), operator, admin.NewKey{Account: "alice", Kind: "personal", Name: "x", Scopes: []string{keys.ScopeRefresh}}); err == nil {
		t.Error("a personal key got the scope of refresh tokens")
	}
}

// TestGrantsAreBounded: a key and a person have a highest number of live grants. A grant
// that has ended leaves its place.
func TestGrantsAreBounded(t *testing.T) {
	w := newWorld(t)
	k, other := w.key(admin.NewKey{}), w.key(admin.NewKey{})
	for _, consent := range []oauth.Consent{w.consent(&k), w.personal()} {
		var last oauth.Grant
		for range oauth.MaxGrants {
			var err error
			last, err = w.Approve(t.Context(), operator, consent)
			w.ok(err)
		}
		_, err := w.Approve(t.Context(), operator, consent)
		w.refused(err, oauth.AccessDenied)
		_, err = w.RevokeGrant(t.Context(), operator, last.ID)
		w.ok(err)
		_, err = w.Approve(t.Context(), operator, consent)
		w.ok(err)
	}
	w.grant(&other)
}

// TestCapIsNotMultiplied: the tokens of two grants of a key with a cap spend at most the
// cap, together with the key. The key can be replaced by its grants, not multiplied.
func TestCapIsNotMultiplied(t *testing.T) {
	w := newWorld(t)
	_, err := w.admin.CreateAccount(t.Context(), operator, admin.NewAccount{Name: "acme"})
	w.ok(err)
	provider, err := w.admin.Account(t.Context(), "acme")
	w.ok(err)
	_, err = w.admin.Credit(t.Context(), operator, admin.Credit{Account: "alice", Amount: 100 * ledger.Unit, Reason: "test"})
	w.ok(err)
	k := w.key(admin.NewKey{Caps: &admin.Caps{Day: amount(1)}})
	payers := []*keys.Key{&k}
	for range 2 {
		g := w.grant(&k)
		tokens := w.tokens(&g)
		for _, secret := range []string{tokens.Access, w.refresh(tokens.Refresh).Access} {
			token, err := w.lookup(secret)
			w.ok(err)
			payers = append(payers, token)
		}
	}
	spent := ledger.Amount(0)
	for range 10 {
		for _, payer := range payers {
			_, day, _ := payer.Limits.Spending()
			o := ledger.Order{Account: payer.Account, Provider: provider.ID, Key: payer.ID, Lineage: payer.Lineage, Server: "weather", Tool: "get", Amount: ledger.Unit / 10}
			id := ids.New("chg_")
			_, err := w.store.Reserve(t.Context(), id, o, ledger.Terms{Key: ledger.Caps{Day: ledger.Amount(day)}})
			if errors.Is(err, ledger.ErrCapped) {
				continue
			}
			w.ok(err)
			_, _, err = w.store.Capture(t.Context(), id, nil)
			w.ok(err)
			spent += o.Amount
		}
	}
	if spent != ledger.Unit {
		t.Errorf("%s was spent, the cap is 1.00", spent)
	}
}

// TestGrantHasItsOwnCap: the cap of a grant of a key without limits bounds the tokens of
// this grant together, also after refreshes, and no others.
func TestGrantHasItsOwnCap(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{})
	c := w.consent(&k)
	c.Limits = &keys.Limits{Month: int64(ledger.Unit)}
	lineages := make(map[string]bool)
	for range 2 {
		g, err := w.Approve(t.Context(), operator, c)
		w.ok(err)
		tokens := w.tokens(&g)
		for _, secret := range []string{tokens.Access, w.refresh(tokens.Refresh).Access} {
			token, err := w.lookup(secret)
			w.ok(err)
			if token.Lineage != g.ID || *token.Limits != *c.Limits {
				t.Errorf("the token is %+v", token)
			}
			lineages[token.Lineage] = true
		}
	}
	if len(lineages) != 2 {
		t.Errorf("lineages %v", lineages)
	}
}

// TestNamesOfClients: the name of a token is short and can be printed, whatever name a
// client claims.
func TestNamesOfClients(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{})
	for claimed, want := range map[string]string{
		"Claude": "Claude (localhost)", "": client.ID + " (localhost)", "a\x1b[31m\nb\u202e": "a[31mb (localhost)", "\xff": client.ID + " (localhost)",
		strings.Repeat("ö", 1<<20): strings.Repeat("ö", 50),
	} {
		c := w.consent(&k)
		c.ClientName = claimed
		g, err := w.Approve(t.Context(), operator, c)
		w.ok(err)
		token, err := w.lookup(w.tokens(&g).Access)
		w.ok(err)
		if token.Name != want {
			t.Errorf("%.20q: the name is %q, want %q", claimed, token.Name, want)
		}
	}
}

// TestApproveAgainstDeleteKey lets the approval of a grant race with changes of its key. No
// token with more rights than the key is alive after both have returned.
func TestApproveAgainstDeleteKey(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		k := w.key(admin.NewKey{Scopes: []string{"read"}})
		change := func() error { _, err := w.admin.DeleteKey(t.Context(), operator, k.ID); return err }
		switch i % 3 {
		case 1:
			change = func() error { return update(admin.KeyChange{Scopes: &[]string{}})(w, k.ID) }
		case 2:
			change = func() error { return update(admin.KeyChange{Caps: &admin.Caps{Day: amount(1)}})(w, k.ID) }
		}
		var tokens oauth.Tokens
		var running sync.WaitGroup
		running.Go(func() {
			g, err := w.Approve(t.Context(), operator, w.consent(&k))
			if err != nil {
				return
			}
			code, err := w.IssueCode(t.Context(), &g, oauth.AuthorizationRequest{Client: g.Client, Server: g.Server, RedirectURI: redirect, Challenge: challenge})
			if err == nil {
				tokens, _ = w.Exchange(t.Context(), client, code, redirect, verifier, lives)
			}
		})
		running.Go(func() {
			if err := change(); err != nil {
				t.Error(err)
			}
		})
		running.Wait()
		if i%3 == 2 && tokens.Access != "" {
			if token, err := w.lookup(tokens.Access); err == nil && (token.Limits == nil || token.Lineage != k.Lineage) {
				t.Fatalf("the token %+v has no cap", token)
			}
			_, err := w.admin.DeleteKey(t.Context(), operator, k.ID)
			w.ok(err)
		}
		if tokens.Access != "" {
			w.dead(tokens.Access)
		}
		w.noLiveTokens()
	}
}

// TestRefreshAgainstRevokeGrant lets refreshes race with the revocation of their grant. No
// token is alive afterwards.
func TestRefreshAgainstRevokeGrant(t *testing.T) {
	w := newWorld(t)
	other := w.node()
	for range 60 {
		g := w.grantOfPerson()
		secret := w.tokens(&g).Refresh
		var mu sync.Mutex
		var secrets []string
		var running sync.WaitGroup
		for _, s := range []*oauth.Service{w.Service, other, w.Service} {
			running.Go(func() {
				for next := secret; next != ""; {
					tokens, _ := s.Refresh(t.Context(), client, next, nil, lives)
					mu.Lock()
					if next = tokens.Refresh; next != "" {
						secrets = append(secrets, tokens.Access)
					}
					mu.Unlock()
				}
			})
		}
		running.Go(func() {
			if _, err := other.RevokeGrant(t.Context(), operator, g.ID); err != nil {
				t.Error(err)
			}
		})
		running.Wait()
		w.dead(secrets...)
		w.noLiveTokens()
	}
}

// noLiveTokens checks that all tokens in the store are deleted.
func (w *world) noLiveTokens() {
	w.Helper()
	for _, kind := range []string{"access", "refresh"} {
		for f := (ledger.KeyFilter{Kind: kind}); ; {
			list, next, err := w.store.Keys(w.Context(), f)
			w.ok(err)
			for i := range list {
				if err := list[i].Check(w.now(), keys.Use{}); err == nil {
					w.Fatalf("the token %+v is alive", list[i])
				}
			}
			if f.After = next; next == "" {
				break
			}
		}
	}
}

// noGrants is a GrantEnder that fails.
type noGrants struct{}

func (noGrants) EndGrantsOfKey(context.Context, admin.Actor, *keys.Key) error { return errBoom }
