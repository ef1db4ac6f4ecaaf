package storetest

import (
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// keys lists all keys that match the filter, and checks the size of each part.
func (t *test) keys(f ledger.KeyFilter) []keys.Key {
	t.Helper()
	var all []keys.Key
	for {
		part, next, err := t.Store.Keys(t.ctx, f)
		t.ok(err)
		if len(part) > f.Size() {
			t.Fatalf("a part has %d keys, want at most %d", len(part), f.Size())
		}
		all = append(all, part...)
		if next == "" {
			return all
		}
		f.After = next
	}
}

// lists checks the names of the keys that match the filter, in parts of several sizes.
func (t *test) lists(what string, f ledger.KeyFilter, want ...string) {
	t.Helper()
	for _, size := range []int{0, 1, 2} {
		f.Limit = size
		var got []string
		for _, k := range t.keys(f) {
			got = append(got, k.Name)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s, in parts of %d: listed %q, want %q", what, f.Size(), got, want)
		}
	}
}

// expiry creates keys that expire at different times, in another order than they were
// created. It returns the time that the expiry times are relative to.
func (t *test) expiry(account string) time.Time {
	t.Helper()
	now := t.Now().UTC().Truncate(time.Microsecond)
	for _, k := range []struct {
		name string
		kind keys.Kind
		in   time.Duration // the time until the key expires; 0 if it never expires
		end  func(*keys.Key)
	}{
		{"late", keys.Agent, 48 * time.Hour, nil},
		{"soon", keys.Personal, time.Hour, nil},
		{"never", keys.Agent, 0, nil},
		{"past", keys.Personal, -time.Microsecond, nil},
		{"deleted", keys.Agent, time.Hour, func(k *keys.Key) { k.DeletedAt = now }},
		{"disabled", keys.Personal, time.Hour, func(k *keys.Key) { k.DisabledAt = now }},
		{"both", keys.Agent, 2 * time.Hour, nil},
	} {
		key := t.newKey(account)
		key.Name, key.Kind, key.ExpiresAt = k.name, k.kind, time.Time{}
		if k.in != 0 {
			key.ExpiresAt = now.Add(k.in)
		}
		t.createKey(key)
		if k.end != nil {
			_, err := t.Store.UpdateKey(t.ctx, key.ID, func(k2 *keys.Key) error { k.end(k2); return nil }, t.audit("key.update", key.ID))
			t.ok(err)
		}
	}
	return now
}

func keyFilters(t *test) {
	mine, other := t.account("acme", 0, 0), t.account("other", 0, 0)
	now := t.expiry(mine)
	stranger := t.newKey(other)
	stranger.Name, stranger.ExpiresAt = "stranger", now.Add(time.Hour)
	t.createKey(stranger)
	t.lists("all", ledger.KeyFilter{}, "late", "soon", "never", "past", "deleted", "disabled", "both", "stranger")
	t.lists("of a kind", ledger.KeyFilter{Kind: "personal"}, "soon", "past", "disabled")
	t.lists("of a kind that none is of", ledger.KeyFilter{Kind: "gateway"})
	t.lists("of an account", ledger.KeyFilter{Account: other}, "stranger")
	t.lists("of account and kind", ledger.KeyFilter{Account: mine, Kind: "agent"}, "late", "never", "deleted", "both")
	t.lists("of account and expiry", ledger.KeyFilter{Account: other, ExpiresBy: now.Add(time.Hour)}, "stranger")
	for _, kind := range []keys.Kind{keys.Access, keys.Refresh} {
		token := t.newKey(mine)
		token.Name, token.Kind, token.ExpiresAt = kind.String(), kind, now.Add(time.Hour)
		t.createKey(token)
	}
	t.lists("without tokens", ledger.KeyFilter{}, "late", "soon", "never", "past", "deleted", "disabled", "both", "stranger")
	t.lists("expiring, without tokens", ledger.KeyFilter{ExpiresBy: now.Add(time.Hour)}, "soon", "stranger")
	t.lists("access tokens", ledger.KeyFilter{Kind: "access"}, "access")
	t.lists("refresh tokens that expire", ledger.KeyFilter{Account: mine, Kind: "refresh", ExpiresBy: now.Add(time.Hour)}, "refresh")
	counts, err := t.Store.CountExpiring(t.ctx, []time.Time{now.Add(time.Hour)})
	t.ok(err)
	if !slices.Equal(counts, []int64{2}) {
		t.Errorf("%d keys expire, want 2: tokens are not counted", counts)
	}
	t.lists("of all three", ledger.KeyFilter{Account: mine, Kind: "agent", ExpiresBy: now.Add(2 * time.Hour)}, "both")
	t.lists("of an account that is not there", ledger.KeyFilter{Account: newID("acct_"), ExpiresBy: now.Add(time.Hour)})
}

// keySorts checks each order of the list of keys, also with filters. Keys with the same
// name, ignoring case, are listed in the order of their creation.
func keySorts(t *test) {
	mine, other := t.account("acme", 0, 0), t.account("other", 0, 0)
	for i, name := range []string{"b", "", "A", "\x00\xff", "a", "ö", "B"} {
		key := t.newKey(mine)
		if i == 6 {
			key = t.newKey(other)
		}
		key.Name = name
		t.createKey(key)
	}
	t.lists("by creation", ledger.KeyFilter{Page: ledger.Page{Sort: ledger.ByCreation}}, "b", "", "A", "\x00\xff", "a", "ö", "B")
	t.lists("newest first", ledger.KeyFilter{Page: ledger.Page{Sort: ledger.ByCreationDown}}, "B", "ö", "a", "\x00\xff", "A", "", "b")
	t.lists("newest first, of an account", ledger.KeyFilter{Account: other, Page: ledger.Page{Sort: ledger.ByCreationDown}}, "B")
	t.lists("by name", ledger.KeyFilter{Page: ledger.Page{Sort: ledger.ByName}}, "", "\x00\xff", "A", "a", "b", "B", "ö")
	t.lists("by name, downwards", ledger.KeyFilter{Page: ledger.Page{Sort: ledger.ByNameDown}}, "ö", "B", "b", "a", "A", "\x00\xff", "")
	t.lists("by name, of an account", ledger.KeyFilter{Account: mine, Page: ledger.Page{Sort: ledger.ByName}}, "", "\x00\xff", "A", "a", "b", "ö")
	_, next, err := t.Store.Keys(t.ctx, ledger.KeyFilter{Page: ledger.Page{Sort: ledger.ByName, Limit: 1}})
	t.ok(err)
	for _, by := range []ledger.Sort{"", ledger.ByNameDown, ledger.ByCreation} {
		_, _, err := t.Store.Keys(t.ctx, ledger.KeyFilter{Page: ledger.Page{Sort: by, After: next}})
		t.want(err, ledger.ErrInvalid)
	}
	_, _, err = t.Store.Keys(t.ctx, ledger.KeyFilter{Page: ledger.Page{Sort: "-used"}})
	t.want(err, ledger.ErrInvalid)
}

func keyExpiring(t *test) {
	now := t.expiry(t.account("acme", 0, 0))
	for _, tt := range []struct {
		in   time.Duration
		want []string
	}{
		{time.Nanosecond, nil},
		{time.Hour - time.Microsecond, nil},
		{time.Hour, []string{"soon"}}, // a key that expires exactly at the end of the period counts
		{2 * time.Hour, []string{"soon", "both"}},
		{30 * 24 * time.Hour, []string{"late", "soon", "both"}},
		{-time.Hour, nil},
	} {
		t.lists("within "+tt.in.String(), ledger.KeyFilter{ExpiresBy: now.Add(tt.in)}, tt.want...)
	}
	t.Advance(90 * time.Minute) // the key "soon" has expired by now
	t.lists("later", ledger.KeyFilter{ExpiresBy: now.Add(30 * 24 * time.Hour)}, "late", "both")
	enabled := t.keys(ledger.KeyFilter{Kind: "personal"})[2]
	_, err := t.Store.UpdateKey(t.ctx, enabled.ID, func(k *keys.Key) error {
		k.DisabledAt, k.ExpiresAt = time.Time{}, now.Add(3*time.Hour)
		return nil
	}, t.audit("key.enable", enabled.ID))
	t.ok(err)
	t.lists("enabled again", ledger.KeyFilter{ExpiresBy: now.Add(3 * time.Hour)}, "disabled", "both")
}

func keyCounts(t *test) {
	until := func(now time.Time) (all []time.Time) {
		for _, in := range []time.Duration{time.Hour, 90 * 24 * time.Hour, 2 * time.Hour, -time.Hour} { // the times are not in order
			all = append(all, now.Add(in))
		}
		return all
	}
	counts, err := t.Store.CountExpiring(t.ctx, until(t.Now()))
	t.ok(err)
	t.same(counts, []int64{0, 0, 0, 0})
	now := t.expiry(t.account("acme", 0, 0))
	counts, err = t.Store.CountExpiring(t.ctx, until(now))
	t.ok(err)
	t.same(counts, []int64{1, 3, 2, 0})
	t.Store = t.Crash()
	counts, err = t.Store.CountExpiring(t.ctx, until(now)[1:2])
	t.ok(err)
	t.same(counts, []int64{3})
	_, err = t.Store.CountExpiring(t.ctx, nil)
	t.refused(err, "a count by no times")
}
