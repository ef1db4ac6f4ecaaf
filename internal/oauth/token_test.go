package oauth_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// TestCodeIsExchangedOnce: a code gives tokens once. Its second use revokes the grant, even
// long after the code has expired.
func TestCodeIsExchangedOnce(t *testing.T) {
	for _, later := range []time.Duration{0, oauth.ReplayTime} {
		w := newWorld(t)
		g := w.grantOfPerson()
		code := w.code(&g)
		tokens, err := w.Exchange(t.Context(), client, code, redirect, verifier, lives)
		w.ok(err)
		w.alive(tokens.Access)
		k, err := w.lookup(tokens.Access)
		w.ok(err)
		if k.Kind != keys.Access || k.Account != w.account || k.Lineage != g.ID || !slices.Equal(k.Scopes, g.Scopes) || !slices.Equal(k.Servers, []string{"weather"}) || tokens.ExpiresIn != lives.Access {
			t.Errorf("the access token is %+v for %s", k, tokens.ExpiresIn)
		}
		if _, err := w.lookup(tokens.Refresh); err == nil {
			t.Error("a refresh token can call servers")
		}
		w.advance(later)
		_, err = w.Exchange(t.Context(), client, code, redirect, verifier, lives)
		w.refused(err, oauth.InvalidGrant)
		w.revoked(&g, tokens)
		if got := w.actions(g.ID); !slices.Equal(got, []string{"grant.create", "grant.revoke"}) {
			t.Errorf("audited %q", got)
		}
	}
}

// TestReplayRevokesForACallerThatHangsUp: a replayed code revokes the grant although the
// tokens cannot be deleted at once. The next sweep deletes them.
func TestReplayRevokesForACallerThatHangsUp(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	code := w.code(&g)
	tokens, err := w.Exchange(t.Context(), client, code, redirect, verifier, lives)
	w.ok(err)
	w.faults.remove.Store(1)
	_, err = w.Exchange(t.Context(), client, code, redirect, verifier, lives)
	w.refused(err, oauth.InvalidGrant)
	if now, err := w.Grant(t.Context(), g.ID); err != nil || now.RevokedAt.IsZero() || !now.EndedAt.IsZero() {
		t.Fatalf("the grant is %+v, %v", now, err)
	}
	w.ok(w.Sweep(t.Context()))
	w.revoked(&g, tokens)
}

// TestCodeIsBound: a code is refused after its life, to another client, at another issuer,
// with another redirect URI and with a verifier that does not belong to the challenge. No
// such attempt uses the code up or revokes its grant.
func TestCodeIsBound(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	code := w.code(&g)
	other, elsewhere := client, client
	other.ID, elsewhere.Server = "other", "maps"
	for name, c := range map[string]struct {
		client                   oauth.Client
		code, redirect, verifier string
	}{
		"another client":    {other, code, redirect, verifier},
		"another issuer":    {elsewhere, code, redirect, verifier},
		"an unknown code":   {client, code + "x", redirect, verifier},
		"no code":           {client, "", redirect, verifier},
		"another redirect":  {client, code, redirect + "/", verifier},
		"no redirect":       {client, code, "", verifier},
		"another verifier":  {client, code, redirect, strings.Repeat("w", 43)},
		"no verifier":       {client, code, redirect, ""},
		"the challenge":     {client, code, redirect, challenge}, // the method "plain"
		"a short verifier":  {client, code, redirect, verifier[:42]},
		"a strange letter":  {client, code, redirect, verifier[:42] + "%"},
		"a long verifier":   {client, code, redirect, strings.Repeat("v", 129)},
		"a line end behind": {client, code, redirect, verifier + "\n"},
	} {
		_, err := w.Exchange(t.Context(), c.client, c.code, c.redirect, c.verifier, lives)
		if oauth.CodeOf(err) != oauth.InvalidGrant {
			t.Errorf("%s: %v", name, err)
		}
	}
	tokens, err := w.Exchange(t.Context(), client, code, redirect, verifier, lives)
	w.ok(err)
	w.alive(tokens.Access)
	code = w.code(&g)
	w.advance(oauth.CodeLife)
	_, err = w.Exchange(t.Context(), client, code, redirect, verifier, lives)
	w.refused(err, oauth.InvalidGrant)
	w.alive(tokens.Access)
}

// TestChallengeForms: only a SHA-256 in base64url is a challenge, also at the limits of the
// verifier's length. A code is issued only to the grant's client for its server.
func TestChallengeForms(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	good := oauth.AuthorizationRequest{Client: client.ID, Server: client.Server, RedirectURI: redirect}
	for _, c := range []string{"", "plain", challenge[:42], challenge + "A", challenge + "=", challenge[:42] + "+", challenge[:42] + "/", challenge + "\n"} {
		r := good
		r.Challenge = c
		_, err := w.IssueCode(t.Context(), &g, r)
		w.refused(err, oauth.InvalidRequest)
	}
	for _, change := range []func(*oauth.AuthorizationRequest){func(r *oauth.AuthorizationRequest) { r.Client = "other" }, func(r *oauth.AuthorizationRequest) { r.Server = "maps" }} {
		r := good
		r.Challenge = challenge
		change(&r)
		_, err := w.IssueCode(t.Context(), &g, r)
		w.refused(err, oauth.InvalidRequest)
	}
	long := strings.Repeat("-._~", 32)
	r := good
	r.Challenge = challengeOf(long)
	code, err := w.IssueCode(t.Context(), &g, r)
	w.ok(err)
	_, err = w.Exchange(t.Context(), client, code, redirect, long, lives)
	w.ok(err)
}

// TestRefreshRotates: a refresh token gives a new pair. The access token that was issued
// before lives on until its end.
func TestRefreshRotates(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	first := w.tokens(&g)
	w.advance(10 * 24 * time.Hour)
	second := w.refresh(first.Refresh)
	if second.Access == first.Access || second.Refresh == first.Refresh {
		t.Fatal("the pair was not renewed")
	}
	w.alive(first.Access, second.Access)
	w.advance(6 * 24 * time.Hour)
	w.dead(first.Access)
	w.alive(second.Access)
	third := w.refresh(second.Refresh)
	w.alive(third.Access)
	w.advance(30 * 24 * time.Hour)
	_, err := w.Refresh(t.Context(), client, third.Refresh, nil, lives)
	w.refused(err, oauth.InvalidGrant)
}

// TestParallelRefreshes: eight requests with one refresh token, at two services, get the
// same pair.
func TestParallelRefreshes(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	nodes := []*oauth.Service{w.Service, w.node()}
	secret := w.tokens(&g).Refresh
	for range 10 {
		var all [8]oauth.Tokens
		var running sync.WaitGroup
		for i := range all {
			running.Go(func() {
				var err error
				if all[i], err = nodes[i%2].Refresh(t.Context(), client, secret, nil, lives); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for _, tokens := range all {
			if tokens.Access != all[0].Access || tokens.Refresh != all[0].Refresh {
				t.Fatal("the pairs differ")
			}
		}
		w.secret(all[0].Access, all[0].Refresh)
		w.alive(all[0].Access)
		secret = all[0].Refresh
		w.advance(time.Second)
	}
}

// TestReuseWithinTheTime: within ReuseTime a used refresh token gives the same pair again,
// with the scopes and the end of the first response, whatever the repeated request asks
// for.
func TestReuseWithinTheTime(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	first := w.tokens(&g)
	second := w.refresh(first.Refresh, "read")
	w.advance(oauth.ReuseTime - time.Microsecond)
	again := w.refresh(first.Refresh)
	if again.Access != second.Access || again.Refresh != second.Refresh || !slices.Equal(again.Scopes, []string{"read"}) || again.ExpiresIn != second.ExpiresIn-oauth.ReuseTime+time.Microsecond {
		t.Errorf("got %v for %s, want %v for %s", again.Scopes, again.ExpiresIn, second.Scopes, second.ExpiresIn)
	}
	k, err := w.lookup(again.Access)
	w.ok(err)
	if n := len(w.actions(k.ID)); n != 1 {
		t.Errorf("%d audit rows for one token", n)
	}
}

// TestReuseAfterTheTime: a later use of a used refresh token revokes the grant, and all its
// tokens are dead. This also holds after a sweep has deleted the seed.
func TestReuseAfterTheTime(t *testing.T) {
	for _, sweep := range []bool{false, true} {
		w := newWorld(t)
		g := w.grantOfPerson()
		first := w.tokens(&g)
		second := w.refresh(first.Refresh)
		third := w.refresh(second.Refresh)
		w.advance(oauth.ReuseTime)
		if sweep {
			w.advance(time.Microsecond)
			w.ok(w.Sweep(t.Context()))
		}
		w.alive(first.Access, second.Access, third.Access)
		_, err := w.Refresh(t.Context(), client, first.Refresh, nil, lives)
		w.refused(err, oauth.InvalidGrant)
		w.revoked(&g, first, second, third)
		if got := w.actions(g.ID); !slices.Equal(got, []string{"grant.create", "grant.revoke"}) {
			t.Errorf("audited %q", got)
		}
	}
}

// TestRefreshAfterACrash: if the process ends after a refresh token was marked as used and
// before both successors exist, a repeated request gets a pair, also from another process
// and much later. Its further repetitions get the same pair.
func TestRefreshAfterACrash(t *testing.T) {
	for _, c := range []struct {
		call  int64
		after time.Duration
	}{{1, oauth.ReuseTime - time.Second}, {2, oauth.ReuseTime - time.Second}, {1, oauth.ReuseTime}, {2, oauth.LostTime}} {
		w := newWorld(t)
		g := w.grantOfPerson()
		first := w.tokens(&g)
		w.faults.issue.Store(c.call)
		if _, err := w.Refresh(t.Context(), client, first.Refresh, nil, lives); !strings.Contains(err.Error(), "boom") {
			t.Fatal(err)
		}
		w.advance(c.after)
		w.ok(w.Sweep(t.Context()))
		second, err := w.node().Refresh(t.Context(), client, first.Refresh, nil, lives)
		w.ok(err)
		again := w.refresh(first.Refresh)
		if again.Access != second.Access || again.Refresh != second.Refresh {
			t.Error("the pairs differ")
		}
		w.alive(second.Access)
		third := w.refresh(second.Refresh)
		w.alive(third.Access)
	}
}

// TestScopesOfRefresh: without scopes, the access token has those of the grant. It can have
// fewer, and never more.
func TestScopesOfRefresh(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	tokens := w.tokens(&g)
	for _, c := range []struct{ asked, want []string }{{[]string{"read"}, []string{"read"}}, {nil, g.Scopes}, {[]string{"write"}, []string{"write"}}} {
		tokens = w.refresh(tokens.Refresh, c.asked...)
		k, err := w.lookup(tokens.Access)
		w.ok(err)
		if !slices.Equal(k.Scopes, c.want) || !slices.Equal(tokens.Scopes, c.want) {
			t.Errorf("asked for %q: got %q, the response says %q", c.asked, k.Scopes, tokens.Scopes)
		}
	}
	for _, scope := range []string{"all", "admin", keys.ScopeConnect, ""} {
		_, err := w.Refresh(t.Context(), client, tokens.Refresh, []string{"read", scope}, lives)
		w.refused(err, oauth.InvalidScope)
	}
	w.advance(oauth.ReuseTime)
	w.alive(w.refresh(tokens.Refresh).Access) // the refused requests have not used the token up
}

// TestForeignRefreshToken: a refresh token works for its client at its issuer only, and
// other secrets are no refresh tokens. No such attempt uses the token up.
func TestForeignRefreshToken(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	tokens := w.tokens(&g)
	_, agent, err := w.admin.CreateKey(t.Context(), operator, admin.NewKey{Account: "alice"})
	w.ok(err)
	other, elsewhere := client, client
	other.ID, elsewhere.Server = "other", "maps"
	for _, c := range []struct {
		client oauth.Client
		secret string
	}{
		{other, tokens.Refresh}, {elsewhere, tokens.Refresh}, {client, tokens.Access}, {client, agent}, {client, ""}, {client, keys.Mint(keys.Refresh, keys.Live)},
	} {
		_, err := w.Refresh(t.Context(), c.client, c.secret, nil, lives)
		w.refused(err, oauth.InvalidGrant)
	}
	w.refresh(tokens.Refresh)
}

// TestEarliestEnd: no token lives longer than its grant, and no grant longer than its key.
func TestEarliestEnd(t *testing.T) {
	w := newWorld(t)
	k := w.key(admin.NewKey{ExpiresIn: "2h"})
	for _, c := range []struct{ asked, want time.Duration }{{0, 2 * time.Hour}, {3 * time.Hour, 2 * time.Hour}, {time.Hour, time.Hour}} {
		consent := w.consent(&k)
		if c.asked != 0 {
			consent.ExpiresAt = w.now().Add(c.asked)
		}
		g, err := w.Approve(t.Context(), operator, consent)
		w.ok(err)
		tokens := w.tokens(&g)
		for _, secret := range []string{tokens.Access, tokens.Refresh} {
			found, err := w.store.KeyByDigest(t.Context(), keys.DigestOf(secret))
			w.ok(err)
			if want := w.now().Add(c.want); !found.ExpiresAt.Equal(want) || tokens.ExpiresIn != c.want {
				t.Errorf("asked for %s: the token ends at %s, want %s", c.asked, found.ExpiresAt, want)
			}
		}
	}
	consent := w.consent(&k)
	consent.ExpiresAt = w.now()
	_, err := w.Approve(t.Context(), operator, consent)
	w.refused(err, oauth.InvalidRequest)
}

// TestTokensAreBounded: a client that gets tokens over and over is refused for a while, and
// its last refresh token is not used up by that. Other grants are not affected.
func TestTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	g, other := w.grantOfPerson(), w.grantOfPerson()
	tokens := w.tokens(&g)
	w.ok(w.Store().Change(t.Context(), func(tx oauth.Tx) error {
		for range oauth.MaxHourly - 2 {
			id := ids.New("key_")
			if err := tx.InsertToken(&oauth.Token{ID: id, Digest: keys.DigestOf(id), Grant: g.ID, Kind: keys.Access, ExpiresAt: w.now().Add(time.Hour)}); err != nil {
				return err
			}
		}
		return nil
	}))
	_, err := w.Refresh(t.Context(), client, tokens.Refresh, nil, lives)
	w.refused(err, oauth.Unavailable)
	w.tokens(&other)
	w.advance(time.Hour + time.Minute)
	w.alive(w.refresh(tokens.Refresh).Access)
}

// TestFirstTokensWithoutRefresh: a client that gets no refresh tokens, and a client that is
// the payer itself, get only an access token.
func TestFirstTokensWithoutRefresh(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	c := client
	c.Refreshes = false
	tokens, err := w.Exchange(t.Context(), c, w.code(&g), redirect, verifier, lives)
	w.ok(err)
	own, err := w.IssueFor(t.Context(), client, g.ID, []string{"read"}, lives)
	w.ok(err)
	if tokens.Refresh != "" || own.Refresh != "" {
		t.Error("there is a refresh token")
	}
	w.alive(tokens.Access, own.Access)
	_, err = w.IssueFor(t.Context(), client, g.ID, []string{"all"}, lives)
	w.refused(err, oauth.InvalidScope)
	c.ID = "other"
	_, err = w.IssueFor(t.Context(), c, g.ID, nil, lives)
	w.refused(err, oauth.InvalidGrant)
}
