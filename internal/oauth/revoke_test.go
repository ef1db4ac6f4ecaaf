package oauth_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// TestRevokeGrant: after RevokeGrant has returned, no token of the grant is accepted.
// Revoking again changes nothing, and an unknown grant is an error.
func TestRevokeGrant(t *testing.T) {
	w := newWorld(t)
	g, other := w.grantOfPerson(), w.grantOfPerson()
	tokens, kept := []oauth.Tokens{w.tokens(&g), w.tokens(&g)}, w.tokens(&other)
	code := w.code(&g)
	tokens = append(tokens, w.refresh(tokens[0].Refresh))
	w.alive(tokens[0].Access, tokens[1].Access, tokens[2].Access)
	ended, err := w.RevokeGrant(t.Context(), operator, g.ID)
	w.ok(err)
	if ended.Reason != "revoked by offline" || !ended.RevokedAt.Equal(w.now()) {
		t.Errorf("the grant is %+v", ended)
	}
	w.revoked(&g, tokens...)
	w.alive(kept.Access)
	_, err = w.Exchange(t.Context(), client, code, redirect, verifier, lives)
	w.refused(err, oauth.InvalidGrant)
	w.advance(time.Hour)
	again, err := w.RevokeGrant(t.Context(), operator, g.ID)
	w.ok(err)
	if !again.RevokedAt.Equal(ended.RevokedAt) {
		t.Errorf("the grant is %+v", again)
	}
	if got := w.actions(g.ID); !slices.Equal(got, []string{"grant.create", "grant.revoke"}) {
		t.Errorf("audited %q", got)
	}
	if _, err := w.RevokeGrant(t.Context(), operator, "grant_x"); !isMissing(err) {
		t.Errorf("an unknown grant: %v", err)
	}
}

// TestSweepFinishesARevocation: if the deletion of tokens fails in between, the revocation
// returns an error, no new tokens are issued, and the next sweep deletes the rest.
func TestSweepFinishesARevocation(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	first, second := w.tokens(&g), w.tokens(&g)
	w.faults.remove.Store(2)
	if _, err := w.RevokeGrant(t.Context(), operator, g.ID); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	_, err := w.Refresh(t.Context(), client, second.Refresh, nil, lives)
	w.refused(err, oauth.InvalidGrant)
	w.faults.remove.Store(1)
	if err := w.Sweep(t.Context()); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	w.ok(w.node().Sweep(t.Context()))
	w.revoked(&g, first, second)
	w.noLiveTokens()
}

// TestSweepDeletes: a sweep deletes used and expired codes after ReplayTime, and expired
// tokens with their keys after ForgetTime, and nothing earlier.
func TestSweepDeletes(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	code := w.code(&g)
	tokens, err := w.Exchange(t.Context(), client, code, redirect, verifier, oauth.Lives{Access: time.Hour, Refresh: 2 * time.Hour})
	w.ok(err)
	left := func() (codes, kept int) {
		w.ok(w.Store().View(t.Context(), func(tx oauth.Tx) error {
			if _, err := tx.Authorization(oauth.DigestOf(code)); err == nil {
				codes++
			}
			list, err := tx.Tokens(g.ID, "", 10)
			for i := range list {
				if _, err := w.store.Key(t.Context(), list[i].ID); err == nil {
					kept++
				}
			}
			if kept != len(list) {
				t.Errorf("%d keys for %d tokens", kept, len(list))
			}
			return err
		}))
		return codes, kept
	}
	for _, c := range []struct {
		at          time.Duration
		codes, kept int
	}{
		{oauth.CodeLife + oauth.ReplayTime, 1, 2}, {oauth.CodeLife + oauth.ReplayTime + time.Microsecond, 0, 2},
		{time.Hour + oauth.ForgetTime, 0, 2}, {time.Hour + oauth.ForgetTime + time.Microsecond, 0, 1}, {2*time.Hour + oauth.ForgetTime + time.Microsecond, 0, 0},
	} {
		w.ahead.Store(int64(c.at))
		w.ok(w.Sweep(t.Context()))
		if codes, kept := left(); codes != c.codes || kept != c.kept {
			t.Errorf("after %s: %d codes and %d tokens, want %d and %d", c.at, codes, kept, c.codes, c.kept)
		}
	}
	w.dead(tokens.Access)
}

// TestSeedsAreForgotten: a sweep deletes the seed of a used refresh token after ReuseTime,
// so that nobody can compute the successors any more.
func TestSeedsAreForgotten(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	first := w.tokens(&g)
	w.refresh(first.Refresh)
	seeds := func() (n int) {
		w.ok(w.Store().View(t.Context(), func(tx oauth.Tx) error {
			list, err := tx.Tokens(g.ID, "", 10)
			for i := range list {
				if len(list[i].Seed) > 0 {
					n++
				}
			}
			return err
		}))
		return n
	}
	for _, c := range []struct {
		pause time.Duration
		want  int
	}{{0, 1}, {oauth.ReuseTime, 1}, {time.Microsecond, 0}} {
		w.advance(c.pause)
		w.ok(w.Sweep(t.Context()))
		if n := seeds(); n != c.want {
			t.Errorf("after another %s: %d seeds, want %d", c.pause, n, c.want)
		}
	}
}

// TestEndGrantsOfPerson: the grants of a person end, except those at the expense of the
// given accounts. Those of others stay.
func TestEndGrantsOfPerson(t *testing.T) {
	w := newWorld(t)
	second, err := w.admin.CreateAccount(t.Context(), operator, admin.NewAccount{Name: "bob"})
	w.ok(err)
	give := func(person, account string) (oauth.Grant, oauth.Tokens) {
		c := w.personal()
		c.Person, c.Account = person, account
		g, err := w.Approve(t.Context(), operator, c)
		w.ok(err)
		return g, w.tokens(&g)
	}
	own, ownTokens := give("psn_1", w.account)
	foreign, foreignTokens := give("psn_1", second.ID)
	_, others := give("psn_2", w.account)
	w.ok(w.EndGrantsOfPersonExcept(t.Context(), operator, "psn_1", []string{second.ID}))
	w.revoked(&own, ownTokens)
	w.alive(foreignTokens.Access, others.Access)
	w.ok(w.EndGrantsOfPersonExcept(t.Context(), operator, "psn_1", nil))
	w.revoked(&foreign, foreignTokens)
	w.alive(others.Access)
}

// TestRemembered: a person's newest live grant is found again for the same client, server
// and host. A grant by a key is never remembered.
func TestRemembered(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{Scopes: []string{"read", "write"}})
	w.grant(&k)
	c := w.personal()
	remembered := func(person, client, server, host string) string {
		t.Helper()
		g, ok, err := w.Remembered(t.Context(), person, client, server, host)
		w.ok(err)
		if ok != (g.ID != "") {
			t.Errorf("found %v: %+v", ok, g)
		}
		return g.ID
	}
	if got := remembered(c.Person, c.Client, c.Server, c.Host); got != "" {
		t.Errorf("the grant of a key is remembered: %s", got)
	}
	c.ExpiresAt = w.now().Add(time.Hour)
	_, err := w.Approve(t.Context(), operator, c)
	w.ok(err)
	w.advance(time.Second)
	newest, err := w.Approve(t.Context(), operator, c)
	w.ok(err)
	for name, q := range map[string]struct{ person, client, server, host, want string }{
		"the same":       {c.Person, c.Client, c.Server, c.Host, newest.ID},
		"another client": {c.Person, "other", c.Server, c.Host, ""},
		"another server": {c.Person, c.Client, "maps", c.Host, ""},
		"another host":   {c.Person, c.Client, c.Server, "evil.example", ""},
		"another person": {"psn_2", c.Client, c.Server, c.Host, ""},
		"no person":      {"", c.Client, c.Server, c.Host, ""},
	} {
		if got := remembered(q.person, q.client, q.server, q.host); got != q.want {
			t.Errorf("%s: %q, want %q", name, got, q.want)
		}
	}
	w.advance(time.Hour)
	if got := remembered(c.Person, c.Client, c.Server, c.Host); got != "" {
		t.Error("an expired grant is remembered")
	}
	g := w.grantOfPerson()
	_, err = w.RevokeGrant(t.Context(), operator, g.ID)
	w.ok(err)
	if got := remembered(c.Person, c.Client, c.Server, c.Host); got != "" {
		t.Error("a revoked grant is remembered")
	}
}

// TestIntrospection: a client learns about its own live tokens, and nothing about others.
func TestIntrospection(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	tokens := w.tokens(&g)
	i, err := w.Introspect(t.Context(), client, tokens.Access)
	w.ok(err)
	if want := (oauth.Introspection{
		Active: true, Scope: "read write", ClientID: client.ID, TokenType: "Bearer", Expires: w.now().Add(lives.Access).Unix(), Issued: w.now().Unix(), Subject: w.account,
	}); i != want {
		t.Errorf("got %+v, want %+v", i, want)
	}
	if i, err = w.Introspect(t.Context(), client, tokens.Refresh); err != nil || !i.Active || i.TokenType != "" || i.Expires != w.now().Add(lives.Refresh).Unix() {
		t.Errorf("got %+v, %v", i, err)
	}
	silent := func(what string, c oauth.Client, secret string) {
		t.Helper()
		if i, err := w.Introspect(t.Context(), c, secret); err != nil || i != (oauth.Introspection{}) {
			t.Errorf("%s: %+v, %v", what, i, err)
		}
	}
	other, elsewhere := client, client
	other.ID, elsewhere.Server = "other", "maps"
	_, agent, err := w.admin.CreateKey(t.Context(), operator, admin.NewKey{Account: "alice"})
	w.ok(err)
	silent("another client", other, tokens.Access)
	silent("another issuer", elsewhere, tokens.Access)
	silent("an agent key", client, agent)
	silent("nonsense", client, "x")
	silent("nothing", client, "")
	next := w.refresh(tokens.Refresh)
	silent("a used refresh token", client, tokens.Refresh)
	w.advance(lives.Access)
	silent("an expired token", client, next.Access)
	w.ok(w.RevokeToken(t.Context(), client, next.Refresh))
	silent("a token of a revoked grant", client, next.Refresh)
}

// TestRevokeToken checks RFC 7009: a client ends an access token alone, and with a refresh
// token the whole grant. It can end no token of another client, and learns nothing.
func TestRevokeToken(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	first, second := w.tokens(&g), w.tokens(&g)
	other := client
	other.ID = "other"
	_, agent, err := w.admin.CreateKey(t.Context(), operator, admin.NewKey{Account: "alice"})
	w.ok(err)
	w.ok(w.RevokeToken(t.Context(), other, first.Access))
	w.ok(w.RevokeToken(t.Context(), other, first.Refresh))
	w.ok(w.RevokeToken(t.Context(), client, agent))
	w.ok(w.RevokeToken(t.Context(), client, "x"))
	w.alive(first.Access, second.Access, agent)
	w.ok(w.RevokeToken(t.Context(), client, first.Access))
	w.ok(w.RevokeToken(t.Context(), client, first.Access))
	w.dead(first.Access)
	w.alive(second.Access)
	first = w.refresh(first.Refresh)
	w.ok(w.RevokeToken(t.Context(), client, second.Refresh))
	w.revoked(&g, first, second)
}

// TestGrantOfClient: a client of the config that pays itself has one grant, and a new one
// after the config has given it other scopes.
func TestGrantOfClient(t *testing.T) {
	w := newWorld(t)
	c := w.personal()
	c.Person = ""
	first, err := w.GrantOfClient(t.Context(), operator, c)
	w.ok(err)
	again, err := w.GrantOfClient(t.Context(), operator, c)
	w.ok(err)
	if again.ID != first.ID {
		t.Error("there are two grants")
	}
	tokens, err := w.IssueFor(t.Context(), client, first.ID, []string{"read"}, lives)
	w.ok(err)
	w.alive(tokens.Access)
	c.Scopes = []string{"read"}
	next, err := w.GrantOfClient(t.Context(), operator, c)
	w.ok(err)
	if next.ID == first.ID {
		t.Error("the grant kept its scopes")
	}
	w.revoked(&first)
	w.dead(tokens.Access)
}

// TestGrantsAreListed: grants are listed newest first, in pages, by each filter.
func TestGrantsAreListed(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{})
	first, second, third := w.grant(&k), w.grantOfPerson(), w.grant(&k)
	_, err := w.RevokeGrant(t.Context(), operator, third.ID)
	w.ok(err)
	for name, c := range map[string]struct {
		query oauth.GrantQuery
		want  []string
	}{
		"all":        {oauth.GrantQuery{}, []string{third.ID, second.ID, first.ID}},
		"of a key":   {oauth.GrantQuery{Key: k.ID}, []string{third.ID, first.ID}},
		"live":       {oauth.GrantQuery{Key: k.ID, Live: w.now()}, []string{first.ID}},
		"a person's": {oauth.GrantQuery{Person: "psn_1"}, []string{second.ID}},
		"nobody's":   {oauth.GrantQuery{Account: "acct_x"}, nil},
	} {
		var got []string
		for q := c.query; ; {
			q.Page = ledger.Page{Limit: 1, After: q.After}
			list, next, err := w.Grants(t.Context(), q)
			w.ok(err)
			for _, g := range list {
				got = append(got, g.ID)
			}
			if q.After = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestUnusedGrantEnds: a sweep ends a grant when its last token has expired, and not before
// a new grant has had time to get tokens.
func TestUnusedGrantEnds(t *testing.T) {
	w := newWorld(t)
	fresh, used := w.grantOfPerson(), w.grantOfPerson()
	tokens := w.tokens(&used)
	for _, c := range []struct {
		at          time.Duration
		fresh, used bool
	}{{24*time.Hour - 1000, true, true}, {24 * time.Hour, false, true}, {lives.Refresh - 1000, false, true}, {lives.Refresh, false, false}} {
		w.ahead.Store(int64(c.at))
		w.ok(w.Sweep(t.Context()))
		for id, want := range map[string]bool{fresh.ID: c.fresh, used.ID: c.used} {
			if g, err := w.Grant(t.Context(), id); err != nil || g.RevokedAt.IsZero() != want {
				t.Errorf("after %s: %+v, %v", c.at, g, err)
			}
		}
	}
	w.revoked(&used, tokens)
}

// counting is a revoker that counts its calls.
type counting struct {
	*keycache.Cache
	calls, digests int
}

func (c *counting) RevokeEach(digests []keys.Digest) {
	c.calls, c.digests = c.calls+1, c.digests+len(digests)
	for _, d := range digests {
		c.Revoke(d)
	}
}

// TestTokensAreRevokedTogether: the end of a grant makes the caches of other nodes forget
// all tokens at once, because each call may wait for these nodes. Expired tokens cost
// nothing.
func TestTokensAreRevokedTogether(t *testing.T) {
	w := newWorld(t)
	c := &counting{Cache: w.cache}
	w.faults.Service = admin.New(w.store, c, func() *admin.Settings { return new(admin.Settings) }, w.now)
	s := oauth.New(w.Store(), oauth.Options{Now: w.now, Keys: w.faults.Service, Secrets: func() *keys.Format { return &keys.DefaultFormat }})
	g := w.grantOfPerson()
	old := w.tokens(&g)
	w.advance(lives.Access + 2*time.Hour)
	tokens := w.refresh(old.Refresh)
	for range 3 {
		tokens = w.refresh(tokens.Refresh)
		w.alive(tokens.Access)
	}
	if c.calls != 0 {
		t.Errorf("the issue of tokens waited %d times for other nodes", c.calls)
	}
	_, err := s.RevokeGrant(t.Context(), operator, g.ID)
	w.ok(err)
	w.revoked(&g, tokens)
	if c.calls != 1 || c.digests != 9 {
		t.Errorf("%d calls for %d tokens", c.calls, c.digests)
	}
}
