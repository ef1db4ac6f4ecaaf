package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// oauthToken stores a token without a key.
func (t *test) oauthToken(grant, id string, change func(*oauth.Token)) oauth.Token {
	t.Helper()
	k := oauth.Token{ID: id, Digest: keys.DigestOf(id), Grant: grant, Kind: keys.Refresh, ExpiresAt: t.micro().Add(time.Hour)}
	if change != nil {
		change(&k)
	}
	t.changeGrants(func(tx oauth.Tx) error { return tx.InsertToken(&k) })
	return k
}

func tokenFound(t *test) {
	full := t.oauthToken("grant_1", "key_1", func(k *oauth.Token) {
		k.Kind, k.Seed, k.UsedAt, k.AccessID, k.RefreshID = keys.Access, []byte{0, 255}, t.micro(), "key_a", "key_b"
	})
	empty := t.oauthToken("grant_1", "key_2", nil)
	check := func(want oauth.Token) {
		t.viewGrants(func(tx oauth.Tx) error {
			got, err := tx.Token(want.Digest)
			t.sameRow(got, want)
			return err
		})
	}
	check(full)
	check(empty)
	full.Seed, full.UsedAt, full.AccessID, full.RefreshID = nil, time.Time{}, "", ""
	empty.Seed, empty.UsedAt, empty.AccessID, empty.RefreshID = []byte("seed"), t.micro(), "key_c", "key_d"
	t.changeGrants(func(tx oauth.Tx) error {
		t.ok(tx.UseToken(&full))
		return tx.UseToken(&empty)
	})
	check(full)
	check(empty)
	for _, again := range []func(*oauth.Token){func(k *oauth.Token) { k.ID = "key_x" }, func(k *oauth.Token) { k.Digest = keys.Digest{1} }} {
		k := full
		again(&k)
		t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.InsertToken(&k) }), ledger.ErrExists)
	}
	full.ID = "key_x"
	t.want(t.grants().Change(t.ctx, func(tx oauth.Tx) error { return tx.UseToken(&full) }), ledger.ErrNotFound)
	t.want(t.grants().View(t.ctx, func(tx oauth.Tx) error { _, err := tx.Token(keys.Digest{1}); return err }), ledger.ErrNotFound)
}

func tokenPages(t *test) {
	want := []string{"key_-", "key_0", "key_A", "key_B", "key_a", "key_b", "key_é"} // in the order of bytes
	for _, i := range []int{3, 0, 6, 5, 1, 4, 2} {
		t.oauthToken("grant_1", want[i], nil)
	}
	t.oauthToken("grant_2", "key_c", nil)
	for _, size := range []int{1, 3, 100} {
		var got []string
		for after := ""; ; {
			n := len(got)
			t.viewGrants(func(tx oauth.Tx) error {
				list, err := tx.Tokens("grant_1", after, size)
				for _, k := range list {
					got, after = append(got, k.ID), k.ID
				}
				return err
			})
			if len(got) == n {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in parts of %d: %q, want %q", size, got, want)
		}
		t.viewGrants(func(tx oauth.Tx) error {
			n, err := tx.CountTokens("grant_1", "key_B", size)
			if n != int64(min(size, 3)) {
				t.Errorf("%d tokens, want %d", n, min(size, 3))
			}
			return err
		})
	}
	for _, limit := range []int{1, 3, 100} {
		var got []string
		t.viewGrants(func(tx oauth.Tx) error {
			list, err := tx.LatestTokens("grant_1", limit)
			for _, k := range list {
				got = append(got, k.ID)
			}
			return err
		})
		latest := slices.Clone(want)
		slices.Reverse(latest)
		if latest = latest[:min(limit, len(latest))]; !slices.Equal(got, latest) {
			t.Errorf("the latest %d: %q, want %q", limit, got, latest)
		}
	}
}

func tokenUnexpired(t *test) {
	now := t.micro()
	t.oauthToken("grant_1", "key_1", func(k *oauth.Token) { k.ExpiresAt = now.Add(time.Microsecond) })
	for grant, want := range map[string]time.Duration{"grant_1": 1, "grant_2": 0} {
		for after := range time.Duration(2) {
			t.viewGrants(func(tx oauth.Tx) error {
				got, err := tx.HasTokens(grant, now.Add(after*time.Microsecond))
				if got != (after < want) {
					t.Errorf("%s after %d: %v", grant, after, got)
				}
				return err
			})
		}
	}
}

func seedsForgotten(t *test) {
	now := t.micro()
	for i, used := range []time.Duration{-time.Minute, -time.Microsecond, 0, time.Minute} {
		t.oauthToken("grant_1", fmt.Sprint("key_", i), func(k *oauth.Token) { k.Seed, k.UsedAt = []byte{1}, now.Add(used) })
	}
	t.oauthToken("grant_1", "key_unused", nil)
	for _, want := range []int64{2, 0} {
		t.changeGrants(func(tx oauth.Tx) error {
			n, err := tx.ForgetSeeds(now)
			if n != want {
				t.Errorf("%d seeds were forgotten, want %d", n, want)
			}
			return err
		})
	}
	t.viewGrants(func(tx oauth.Tx) error {
		list, err := tx.Tokens("grant_1", "", 10)
		for _, k := range list {
			if (len(k.Seed) > 0) != (k.ID == "key_2" || k.ID == "key_3") || k.UsedAt.IsZero() != (k.ID == "key_unused") {
				t.Errorf("%+v", k)
			}
		}
		return err
	})
}

func tokensDeleted(t *test) {
	account, now := t.account("acme", 0, 0), t.micro()
	var ids []string
	for i, ends := range []time.Duration{2, 1, 3, 1} {
		k := t.newKey(account)
		k.Kind, k.ExpiresAt = keys.Access, now.Add(ends*time.Second)
		t.createKey(k)
		ids = append(ids, k.ID)
		t.oauthToken("grant_1", k.ID, func(o *oauth.Token) { o.Kind, o.ExpiresAt = keys.Access, k.ExpiresAt })
		if i == 0 {
			t.oauthToken("grant_1", "key_lost", func(o *oauth.Token) { o.ExpiresAt = k.ExpiresAt }) // its key was never stored
		}
	}
	bystander := t.newKey(account)
	bystander.ExpiresAt = now.Add(time.Second)
	t.createKey(bystander)
	for _, c := range []struct {
		end   time.Duration
		limit int
		want  int64
		left  string
	}{{1, 10, 0, "0 1 2 3"}, {2, 1, 1, "0 2 3"}, {2, 10, 1, "0 2"}, {3, 10, 2, "2"}, {4, 10, 1, ""}, {4, 10, 0, ""}} {
		t.changeGrants(func(tx oauth.Tx) error {
			n, err := tx.DeleteTokensBefore(now.Add(c.end*time.Second), c.limit)
			if n != c.want {
				t.Errorf("%+v: %d were deleted", c, n)
			}
			return err
		})
		var left []string
		for i, id := range ids {
			if _, err := t.Store.Key(t.ctx, id); err == nil {
				left = append(left, fmt.Sprint(i))
			}
		}
		if strings.Join(left, " ") != c.left && !(c.want == 1 && len(left) == 3) { // two of the ids are equally old
			t.Errorf("%+v: the keys %q are left", c, left)
		}
	}
	_, err := t.Store.Key(t.ctx, bystander.ID)
	t.ok(err)
}

// grantOfService tests oauth.Service on the store under test. An agent key gives a grant,
// a client refreshes in parallel, and the deletion of the key ends everything.
func grantOfService(t *test) {
	settings := func() *admin.Settings { return new(admin.Settings) }
	accounts := admin.New(t.Store, nil, settings, t.micro)
	service := func() *oauth.Service {
		return oauth.New(t.grants(), oauth.Options{Now: t.micro, Keys: accounts, Secrets: func() *keys.Format { return &keys.DefaultFormat }})
	}
	s := service()
	accounts.WithGrants(s)
	t.account("acme", 0, 0)
	actor, lives := admin.Actor{Name: "suite"}, oauth.Lives{Access: time.Hour, Refresh: 24 * time.Hour}
	agent, _, err := accounts.CreateKey(t.ctx, actor, admin.NewKey{Account: "acme"})
	t.ok(err)
	client := oauth.Client{ID: "client", Server: "weather", Actor: actor, Refreshes: true}
	g, err := s.Approve(t.ctx, actor, oauth.Consent{Client: client.ID, Server: client.Server, Key: agent.ID})
	t.ok(err)
	tokens, err := s.IssueFor(t.ctx, client, g.ID, nil, lives)
	t.ok(err)
	if tokens.Refresh != "" {
		t.Errorf("a payer got a refresh token")
	}
	d, err := s.BeginDevice(t.ctx, oauth.Authorization{Client: client.ID, Server: client.Server})
	t.ok(err)
	t.ok(s.AnswerDevice(t.ctx, d.UserCode, g.ID, nil))
	tokens, err = s.PollDevice(t.ctx, client, d.DeviceCode, lives)
	t.ok(err)
	secrets := []string{tokens.Access}
	for range 3 {
		var all [8]oauth.Tokens
		var running sync.WaitGroup
		for i := range all {
			running.Go(func() {
				var err error
				if all[i], err = service().Refresh(t.ctx, client, tokens.Refresh, nil, lives); err != nil {
					t.Errorf("refresh: %v", err)
				}
			})
		}
		running.Wait()
		for _, other := range all {
			if other.Access != all[0].Access || other.Refresh != all[0].Refresh || other.Access == "" {
				t.Fatalf("the pairs differ")
			}
		}
		tokens = all[0]
		secrets = append(secrets, tokens.Access)
	}
	alive := func() (n int) {
		for _, secret := range secrets {
			k, err := t.Store.KeyByDigest(t.ctx, keys.DigestOf(secret))
			t.ok(err)
			if k.Check(t.micro(), keys.Use{Scope: keys.ScopeConnect, Server: "weather"}) == nil {
				n++
			}
		}
		return n
	}
	if n := alive(); n != len(secrets) {
		t.Fatalf("%d of %d tokens are alive", n, len(secrets))
	}
	_, err = accounts.DeleteKey(t.ctx, actor, agent.ID)
	t.ok(err)
	if n := alive(); n != 0 {
		t.Errorf("%d tokens are alive", n)
	}
	t.ok(s.Sweep(t.ctx))
	if got := t.audited(ledger.AuditFilter{Target: g.ID}); len(got) != 2 || got[0].Action != "grant.revoke" || got[1].Action != "grant.create" {
		t.Errorf("audited %+v", got)
	}
}
