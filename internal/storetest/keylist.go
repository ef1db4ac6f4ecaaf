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
		in   time.Duration // zero: never
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
	t.lists("of all three", ledger.KeyFilter{Account: mine, Kind: "agent", ExpiresBy: now.Add(2 * time.Hour)}, "both")
	t.lists("of an account that is not there", ledger.KeyFilter{Account: newID("acct_"), ExpiresBy: now.Add(time.Hour)})
}

func keyExpiring(t *test) {
	now := t.expiry(t.account("acme", 0, 0))
	for _, tt := range []struct {
		in   time.Duration
		want []string
	}{
		{time.Nanosecond, nil},
		{time.Hour - time.Microsecond, nil},
		{time.Hour, []string{"soon"}}, // a key that expires at that very moment counts
		{2 * time.Hour, []string{"soon", "both"}},
		{30 * 24 * time.Hour, []string{"late", "soon", "both"}},
		{-time.Hour, nil},
	} {
		t.lists("within "+tt.in.String(), ledger.KeyFilter{ExpiresBy: now.Add(tt.in)}, tt.want...)
	}
	t.Advance(90 * time.Minute) // "soon" has ended
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
		for _, in := range []time.Duration{time.Hour, 90 * 24 * time.Hour, 2 * time.Hour, -time.Hour} { // not sorted
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
