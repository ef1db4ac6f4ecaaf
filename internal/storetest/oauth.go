package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/clienttest"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

func runOAuth(t *testing.T, open func(t *testing.T) Harness) {
	if _, ok := open(t).Store.(withRows); !ok {
		t.Skip("the store keeps no grants")
	}
	t.Run("clients", func(t *testing.T) { clienttest.Run(t, oauthstore.NewClients(open(t).Store.(withRows).Rows())) })
	each(t, open,
		named{"a grant is found with every field", grantFound},
		named{"grants are listed in pages by each filter", grantPages},
		named{"grants of keys that have ended are orphans", grantOrphans},
		named{"a revoked grant is unfinished until its end is complete", grantUnfinished},
		named{"a code is found with every field, and once", authorizationFound},
		named{"old authorizations are deleted, and devices counted", authorizationsDeleted},
		named{"a token is found with every field, and once", tokenFound},
		named{"the tokens of a grant are listed in order", tokenPages},
		named{"a grant has tokens until they expire", tokenUnexpired},
		named{"seeds are forgotten", seedsForgotten},
		named{"expired tokens are deleted with their keys", tokensDeleted},
		named{"bad rows of grants are refused", grantRefused},
		named{"no text can make a lookup of OAuth fail", strangeGrants},
		named{"grants and tokens survive a crash", grantSurvives},
		named{"a client is authorized, refreshes in parallel and is revoked", grantOfService},
	)
}

// grants returns access to the rows of OAuth.
func (t *test) grants() *sqltx.Store[oauth.Tx] { return oauthstore.New(t.Store.(withRows).Rows()) }

// changeGrants calls do to change rows of OAuth. The change must succeed.
func (t *test) changeGrants(do func(oauth.Tx) error) {
	t.Helper()
	t.ok(t.grants().Change(t.ctx, do))
}

// viewGrants calls do to read rows of OAuth. Reading must succeed.
func (t *test) viewGrants(do func(oauth.Tx) error) {
	t.Helper()
	t.ok(t.grants().View(t.ctx, do))
}

// sameRow checks that two rows of OAuth are equal.
func (t *test) sameRow(got, want any) {
	t.Helper()
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Fatalf("got  %s\nwant %s", a, b)
	}
}

// grant stores a grant after the function change, which may be nil.
func (t *test) grant(change func(*oauth.Grant)) oauth.Grant {
	t.Helper()
	g := oauth.Grant{
		ID: newID("grant_"), Account: "acct_a", Environment: keys.Live, Server: "weather", Client: "https://client.example/ö", ClientName: "Zoë's",
		Host: "localhost", Lineage: "key_l", CreatedAt: t.micro(),
	}
	if change != nil {
		change(&g)
	}
	t.changeGrants(func(tx oauth.Tx) error { return tx.InsertGrant(&g) })
	return g
}

func grantFound(t *test) {
	limits := everyLimit()
	full := t.grant(func(g *oauth.Grant) {
		g.Scopes, g.Limits, g.Key, g.Person = []string{"read", `"`}, limits, "key_1", "psn_1"
		g.ExpiresAt, g.RevokedAt, g.EndedAt, g.Reason = t.micro().Add(1), t.micro().Add(2*time.Second), t.micro().Add(3*time.Second), "ö"
		g.ExpiresAt = g.ExpiresAt.Add(time.Microsecond - 1)
	})
	empty := t.grant(nil)
	check := func(want oauth.Grant) {
		t.viewGrants(func(tx oauth.Tx) error {
			got, err := tx.Grant(want.ID)
			if got.Limits != nil && want.Limits != nil && *got.Limits == *want.Limits {
				got.Limits = want.Limits // compare the pointers' targets
			}
			t.sameRow(got, want)
			return err
		})
	}
	check(full)
	check(empty)
	full.Scopes, full.Limits, full.ExpiresAt, full.RevokedAt, full.EndedAt, full.Reason = nil, nil, time.Time{}, time.Time{}, time.Time{}, ""
	empty.Scopes, empty.Limits, empty.ExpiresAt, empty.RevokedAt, empty.EndedAt, empty.Reason = []string{"x"}, limits, t.micro(), t.micro(), t.micro(), "y"
	for _, g := range []oauth.Grant{full, empty} {
		t.changeGrants(func(tx oauth.Tx) error { return tx.UpdateGrant(&g) })
		check(g)
	}
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.InsertGrant(&full) }), ledger.ErrExists)
	full.ID = "grant_x"
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.UpdateGrant(&full) }), ledger.ErrNotFound)
	t.want(t.grants().View(t.ctx, func(tx oauth.Tx) error { _, err := tx.Grant("grant_x"); return err }), ledger.ErrNotFound)
	if t.grants().View(t.ctx, func(tx oauth.Tx) error { return tx.UpdateGrant(&empty) }) == nil {
		t.Errorf("a view has changed the store")
	}
}

func grantPages(t *test) {
	now := t.micro()
	var all []oauth.Grant
	for i := range 7 {
		all = append(all, t.grant(func(g *oauth.Grant) {
			g.Account, g.Client, g.Server = []string{"acct_a", "acct_b"}[i%2], fmt.Sprint("client ", i%3), fmt.Sprint("server", i%2)
			switch i % 3 {
			case 0:
				g.Key = "key_a"
			case 1:
				g.Person = "psn_a"
			}
			switch i {
			case 4:
				g.ExpiresAt = now
			case 5:
				g.RevokedAt = now
			case 6:
				g.ExpiresAt = now.Add(time.Microsecond)
			}
		}))
	}
	for name, c := range map[string]struct {
		query oauth.GrantQuery
		match func(oauth.Grant) bool
	}{
		"all":         {oauth.GrantQuery{}, func(oauth.Grant) bool { return true }},
		"account":     {oauth.GrantQuery{Account: "acct_b"}, func(g oauth.Grant) bool { return g.Account == "acct_b" }},
		"client":      {oauth.GrantQuery{Client: "client 1"}, func(g oauth.Grant) bool { return g.Client == "client 1" }},
		"server":      {oauth.GrantQuery{Server: "server1"}, func(g oauth.Grant) bool { return g.Server == "server1" }},
		"key":         {oauth.GrantQuery{Key: "key_a"}, func(g oauth.Grant) bool { return g.Key == "key_a" }},
		"person":      {oauth.GrantQuery{Person: "psn_a"}, func(g oauth.Grant) bool { return g.Person == "psn_a" }},
		"live":        {oauth.GrantQuery{Live: now}, func(g oauth.Grant) bool { return g.Live(now) }},
		"several":     {oauth.GrantQuery{Key: "key_a", Account: "acct_a", Live: now}, func(g oauth.Grant) bool { return g.Key == "key_a" && g.Account == "acct_a" && g.Live(now) }},
		"none at all": {oauth.GrantQuery{Account: "acct_x"}, func(oauth.Grant) bool { return false }},
	} {
		var want []string
		for _, g := range slices.Backward(all) {
			if c.match(g) {
				want = append(want, g.ID)
			}
		}
		for _, size := range []int{0, 1, 2} {
			q, got := c.query, []string(nil)
			for q.Limit = size; ; {
				var list []oauth.Grant
				t.viewGrants(func(tx oauth.Tx) (err error) { list, q.After, err = tx.Grants(t.ctx, q); return err })
				for _, g := range list {
					got = append(got, g.ID)
				}
				if q.After == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, in parts of %d: %q, want %q", name, size, got, want)
			}
		}
	}
	t.want(t.grants().View(t.ctx, func(tx oauth.Tx) error {
		_, _, err := tx.Grants(t.ctx, oauth.GrantQuery{Page: ledger.Page{After: "x"}})
		return err
	}), ledger.ErrInvalid)
}

// grantIDs returns the ids of the grants that list returns.
func (t *test) grantIDs(list func(oauth.Tx) ([]oauth.Grant, error)) (ids []string) {
	t.Helper()
	t.viewGrants(func(tx oauth.Tx) error {
		grants, err := list(tx)
		for _, g := range grants {
			ids = append(ids, g.ID)
		}
		return err
	})
	return ids
}

func grantOrphans(t *test) {
	account := t.account("acme", 0, 0)
	var want []string
	for i, end := range []func(*keys.Key){
		nil, func(k *keys.Key) { k.DeletedAt = t.micro() }, func(k *keys.Key) { k.DisabledAt = t.micro() }, func(k *keys.Key) { k.Successor = "key_s" }, func(k *keys.Key) { k.ExpiresAt = t.micro() },
	} {
		k := t.newKey(account)
		t.createKey(k)
		g := t.grant(func(g *oauth.Grant) { g.Key = k.ID })
		t.grant(func(g *oauth.Grant) { g.Key, g.RevokedAt = k.ID, t.micro() })
		if end == nil {
			continue
		}
		_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { end(k); return nil }, t.audit("key.update", k.ID))
		t.ok(err)
		if i < 4 { // the grant of an expired key has expired, too
			want = append(want, g.ID)
		}
	}
	t.grant(nil)
	for _, limit := range []int{1, 2, 100} {
		got := t.grantIDs(func(tx oauth.Tx) ([]oauth.Grant, error) { return tx.Orphans(limit) })
		if !slices.Equal(got, want[:min(limit, 3)]) {
			t.Errorf("orphans %q, want %q", got, want[:min(limit, 3)])
		}
	}
}

func grantUnfinished(t *test) {
	t.grant(nil)
	t.grant(func(g *oauth.Grant) { g.RevokedAt, g.EndedAt = t.micro(), t.micro() })
	first, second := t.grant(func(g *oauth.Grant) { g.RevokedAt = t.micro() }), t.grant(func(g *oauth.Grant) { g.RevokedAt = t.micro() })
	for _, limit := range []int{1, 2, 100} {
		got, want := t.grantIDs(func(tx oauth.Tx) ([]oauth.Grant, error) { return tx.Unfinished(limit) }), []string{first.ID, second.ID}
		if !slices.Equal(got, want[:min(limit, 2)]) {
			t.Errorf("unfinished %q, want %q", got, want)
		}
	}
}

// authorization returns an authorization with every field set.
func (t *test) authorization(n byte) (oauth.Authorization, oauth.Digest) {
	return oauth.Authorization{
		Grant: "grant_1", Client: "client", Server: "weather", RedirectURI: "cursor://x/ö", Challenge: "c", Scopes: []string{"read"}, UserCode: oauth.Digest{n, 1},
		Denied: true, ExpiresAt: t.micro().Add(time.Second), UsedAt: t.micro(), PolledAt: t.micro().Add(2 * time.Second), ClientName: "Zoë", Host: "h",
	}, oauth.Digest{n, 2}
}

func authorizationFound(t *test) {
	full, d := t.authorization(1)
	empty, other := oauth.Authorization{ExpiresAt: t.micro()}, oauth.Digest{9}
	t.changeGrants(func(tx oauth.Tx) error {
		t.ok(tx.InsertAuthorization(&full, d))
		return tx.InsertAuthorization(&empty, other)
	})
	check := func(want oauth.Authorization, d oauth.Digest) {
		t.viewGrants(func(tx oauth.Tx) error {
			got, err := tx.Authorization(d)
			t.sameRow(got, want)
			return err
		})
	}
	check(full, d)
	check(empty, other)
	t.viewGrants(func(tx oauth.Tx) error {
		got, digest, err := tx.AuthorizationByUserCode(full.UserCode)
		if digest != d {
			t.Errorf("the digest is %x", digest)
		}
		t.sameRow(got, full)
		return err
	})
	for _, unknown := range []oauth.Digest{{}, {1}, d} {
		t.want(t.grants().View(t.ctx, func(tx oauth.Tx) error { _, _, err := tx.AuthorizationByUserCode(unknown); return err }), ledger.ErrNotFound)
	}
	t.want(t.grants().View(t.ctx, func(tx oauth.Tx) error { _, err := tx.Authorization(oauth.Digest{}); return err }), ledger.ErrNotFound)
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.InsertAuthorization(&full, d) }), ledger.ErrExists)
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.InsertAuthorization(&full, oauth.Digest{3}) }), ledger.ErrExists) // the user code belongs to another device
	full.Grant, full.Scopes, full.Denied, full.UsedAt, full.PolledAt = "", nil, false, time.Time{}, time.Time{}
	empty.Grant, empty.Scopes, empty.Denied, empty.UsedAt, empty.PolledAt = "grant_2", []string{"a", "b"}, true, t.micro(), t.micro()
	t.changeGrants(func(tx oauth.Tx) error {
		t.ok(tx.UpdateAuthorization(&full, d))
		return tx.UpdateAuthorization(&empty, other)
	})
	check(full, d)
	check(empty, other)
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.UpdateAuthorization(&full, oauth.Digest{3}) }), ledger.ErrNotFound)
}

func authorizationsDeleted(t *test) {
	now := t.micro()
	for i, change := range []func(*oauth.Authorization){
		func(*oauth.Authorization) {},                                            // waits
		func(a *oauth.Authorization) { a.ExpiresAt = now.Add(time.Microsecond) }, // waits
		func(a *oauth.Authorization) { a.ExpiresAt = now },
		func(a *oauth.Authorization) { a.Grant = "grant_1" },
		func(a *oauth.Authorization) { a.Denied = true },
		func(a *oauth.Authorization) { a.UserCode = oauth.Digest{} },
	} {
		a, d := t.authorization(byte(i + 1))
		a.Grant, a.Denied, a.ExpiresAt = "", false, now.Add(time.Minute)
		change(&a)
		t.changeGrants(func(tx oauth.Tx) error { return tx.InsertAuthorization(&a, d) })
	}
	count := func(want int64) {
		t.viewGrants(func(tx oauth.Tx) error {
			n, err := tx.CountDevices(now)
			if n != want {
				t.Errorf("%d devices wait, want %d", n, want)
			}
			return err
		})
	}
	count(2)
	for _, c := range []struct {
		end  time.Duration
		want int64
	}{{0, 0}, {1, 1}, {time.Minute / time.Microsecond, 1}, {time.Minute/time.Microsecond + 1, 4}, {time.Hour, 0}} {
		t.changeGrants(func(tx oauth.Tx) error {
			n, err := tx.DeleteAuthorizationsBefore(now.Add(c.end * time.Microsecond))
			if n != c.want {
				t.Errorf("%d were deleted, want %d", n, c.want)
			}
			return err
		})
	}
	count(0)
}

func grantRefused(t *test) {
	for _, l := range []keys.Limits{{Day: -1}, {Rate: keys.Rate{Requests: 1}}} {
		g := oauth.Grant{ID: newID("grant_"), Limits: &l}
		t.refused(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.InsertGrant(&g) }), fmt.Sprintf("limits %+v", l))
		known := t.grant(nil)
		known.Limits = &l
		t.refused(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.UpdateGrant(&known) }), fmt.Sprintf("limits %+v", l))
	}
	g, none := t.grant(nil), keys.Limits{}
	g.Limits = &none
	t.changeGrants(func(tx oauth.Tx) error { return tx.UpdateGrant(&g) })
	t.viewGrants(func(tx oauth.Tx) error {
		got, err := tx.Grant(g.ID)
		if got.Limits != nil {
			t.Errorf("limits %+v", got.Limits)
		}
		return err
	})
	// A row that cannot be read is an error, not an empty grant.
	change := func(statement string) {
		t.ok(t.Store.(withRows).Rows().Change(t.ctx, func(c sqltx.Conn) error { _, err := c.Exec(statement, g.ID); return err }))
	}
	for _, column := range []string{"scopes", "limits"} {
		change(`UPDATE oauth_grant SET ` + column + ` = '{' WHERE id = $1`)
		err := t.grants().View(t.ctx, func(tx oauth.Tx) error { _, err := tx.Grant(g.ID); return err })
		t.refused(err, "a grant with broken "+column)
		change(`UPDATE oauth_grant SET ` + column + ` = '' WHERE id = $1`)
	}
	k := t.oauthToken(g.ID, "key_1", nil)
	change(`UPDATE oauth_token SET kind = 'none' WHERE owner = $1`)
	t.refused(t.grants().View(t.ctx, func(tx oauth.Tx) error { _, err := tx.Token(k.Digest); return err }), "a token of an unknown kind")
}

func strangeGrants(t *test) {
	for _, text := range []string{"", "\x00", "\xff\xfe", "'; DROP TABLE oauth_grant; --"} {
		t.changeGrants(func(tx oauth.Tx) error {
			_, err := tx.Grant(text)
			t.want(err, ledger.ErrNotFound)
			_, _, err = tx.Grants(t.ctx, oauth.GrantQuery{Account: text, Client: text, Server: text, Key: text, Person: text})
			t.ok(err)
			_, err = tx.LatestTokens(text, 10)
			t.ok(err)
			_, err = tx.Tokens(text, text, 10)
			return err
		})
		g := t.grant(func(g *oauth.Grant) { g.ClientName, g.Host, g.Scopes = text, text, []string{text} })
		t.viewGrants(func(tx oauth.Tx) error { _, err := tx.Grant(g.ID); return err })
	}
}

func grantSurvives(t *test) {
	g := t.grant(nil)
	k := t.oauthToken(g.ID, "key_1", nil)
	g.RevokedAt, g.Reason = t.micro(), "revoked"
	t.changeGrants(func(tx oauth.Tx) error { return tx.UpdateGrant(&g) })
	t.Store = t.Crash()
	t.viewGrants(func(tx oauth.Tx) error {
		got, err := tx.Grant(g.ID)
		t.ok(err)
		t.sameRow(got, g)
		token, err := tx.Token(k.Digest)
		t.sameRow(token, k)
		return err
	})
}
