package ops

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// TestEarnings checks that a provider finds its earnings with every filter. The list
// must have the names of the payers, and the sums must separate test credits from live
// ones.
func TestEarnings(t *testing.T) {
	o := newOffice(t)
	alice, acme, other := o.account("alice"), o.account("acme@example.com"), o.account("other")
	for _, test := range []bool{false, true} {
		do[admin.AccountView](o, "POST", "accounts/alice/credits", admin.Credit{Amount: 1_000_000, Reason: "x", Test: test})
	}
	key := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"})
	charge := func(provider admin.AccountView, server string, test bool) string {
		t.Helper()
		id := ids.New("chg_")
		_, _, err := o.store.Charge(context.Background(), id, ledger.Order{
			Account: alice.ID, Provider: provider.ID, Key: key.ID, Lineage: key.ID, Server: server, Tool: "prompt:a b",
			Amount: 10_000, Fee: 250, FeeTo: alice.ID, Test: test,
		}, ledger.Terms{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	mine := []string{charge(acme, "weather", false), charge(acme, "maps", true), charge(acme, "weather", false)}
	charge(other, "weather", false)
	do[admin.ChargeView](o, "POST", "charges/"+mine[0]+"/refunds", admin.Refund{Amount: ptr(ledger.Amount(4_000)), Reason: "slow"})

	list := do[admin.List[admin.ChargeView]](o, "GET", "charges?provider=ACME%40example.com", nil)
	if len(list.Items) != 3 || list.Items[0].ID != mine[2] {
		t.Fatalf("%+v", list)
	}
	one := do[admin.ChargeView](o, "GET", "charges/"+mine[0], nil)
	for _, c := range append(list.Items, one) {
		if c.Account != alice.ID || c.AccountName != "alice" || c.Provider != acme.ID || c.ProviderName != "acme@example.com" {
			t.Errorf("%+v", c)
		}
	}
	tomorrow := clock.Now().Add(24 * time.Hour).UTC()
	for query, want := range map[string]admin.ChargeSums{
		"provider=acme@example.com":                        {Live: sum(2, 20_000, 500, 4_000), Test: sum(1, 10_000, 250, 0)},
		"provider=" + other.ID:                             {Live: sum(1, 10_000, 250, 0)},
		"account=alice&server=weather":                     {Live: sum(3, 30_000, 750, 4_000)},
		"provider=alice":                                   {},
		"tool=prompt%3Aa+b&key=" + key.ID + "&server=maps": {Test: sum(1, 10_000, 250, 0)},
		"key=key_none":                                     {},
		"since=1h":                                         {Live: sum(3, 30_000, 750, 4_000), Test: sum(1, 10_000, 250, 0)},
		"since=1d&until=" + tomorrow.Format(time.DateOnly): {Live: sum(3, 30_000, 750, 4_000), Test: sum(1, 10_000, 250, 0)},
		"until=1h":                                         {},
		"since=" + url.QueryEscape(tomorrow.Format(time.RFC3339)): {},
	} {
		if got := do[admin.ChargeSums](o, "GET", "charges/sum?"+query, nil); got != want {
			t.Errorf("%s: %+v, want %+v", query, got, want)
		}
	}
	for query, words := range map[string]string{
		"since=yesterday": "neither a time before now", "until=-1h": "until", "since=40000d": "since", "since=2026-13-01": "since", "key=sk_live_1": "begins with key_",
	} {
		for _, path := range []string{"charges?", "charges/sum?"} {
			o.refused(admin.Invalid, words, "GET", path+query, nil)
		}
	}
	o.refused(admin.NotFound, "nobody", "GET", "charges?provider=nobody", nil)
	if _, err := o.Do(t.Context(), "GET", "charges?key=sk_live_1", nil); err == nil || strings.Contains(err.Error(), "sk_live_1") {
		t.Errorf("what may be a secret is repeated: %v", err)
	}
}

func sum(charges int64, amount, fees, refunded ledger.Amount) admin.ChargeSum {
	return admin.ChargeSum{Charges: charges, Amount: amount, Fees: fees, Refunded: refunded}
}

func ptr[T any](v T) *T { return &v }

// TestSumTooLarge checks that a sum that overflows is an error.
func TestSumTooLarge(t *testing.T) {
	s := admin.ChargeSum{Amount: 1<<63 - 1}
	if err := s.Add(admin.ChargeSum{Amount: 1}); err == nil {
		t.Errorf("it is %s", s.Amount)
	}
}

// TestKeysNameTheirAccount checks that every response with keys contains the names of
// their accounts.
func TestKeysNameTheirAccount(t *testing.T) {
	o := newOffice(t)
	a := o.account("jane@example.com")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: a.ID})
	next := do[admin.KeyView](o, "POST", "keys/"+k.ID+"/rotate", admin.Rotation{})
	for _, got := range append(do[admin.List[admin.KeyView]](o, "GET", "keys", nil).Items, k, next,
		do[admin.KeyView](o, "GET", "keys/"+k.ID, nil), do[admin.KeyView](o, "DELETE", "keys/"+k.ID, nil)) {
		if got.Account != a.ID || got.AccountName != "jane@example.com" {
			t.Errorf("%+v", got)
		}
	}
}

// longJournal creates a store with n charges, one per second, the newest now. Only the
// oldest and the newest charge are for the tool "rare". The second result has the
// times of these two charges.
func longJournal(t *testing.T, n int64) (path string, ends [2]time.Time) {
	t.Helper()
	path = longBooks(t, n)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Now().UTC().Truncate(time.Second)
	_, err = db.Exec(`DROP TRIGGER txn_is_final; UPDATE txn SET at = (?2 - ?1 + seq) * 1000000, tool = iif(seq IN (1, ?1), 'rare', 't')`, n, now.Unix())
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path, [2]time.Time{now.Add(-time.Duration(n-1) * time.Second), now}
}

// allCharges returns all charges that match the filter, and the number of calls of
// Charges that this took.
func allCharges(t *testing.T, store *sqlitestore.Store, f ledger.ChargeFilter) (all []ledger.Charge, parts int) {
	t.Helper()
	for {
		part, next, err := store.Charges(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, part...)
		if parts++; next == "" {
			return all, parts
		}
		f.After = next
	}
}

// TestRareCharges checks that a filter that matches few charges of a long journal finds
// all of them. The test follows the cursor through all parts of the list, for all
// accounts and for a single payer or provider. It also checks that a list with a later
// Since ends at once, instead of reading all older charges.
func TestRareCharges(t *testing.T) {
	const n = 2*ledger.MaxScan + ledger.MaxScan/2 // two and a half parts of a list
	path, ends := longJournal(t, n)
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	id := func(name string) string {
		a, err := store.Account(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	for _, f := range []ledger.ChargeFilter{{Tool: "rare"}, {Tool: "rare", Account: id("payer")}, {Tool: "rare", Provider: id("payee")}, {Tool: "rare", Since: ends[0]}} {
		charges, parts := allCharges(t, store, f)
		var found []time.Time
		for _, c := range charges {
			found = append(found, c.At)
		}
		if len(found) != 2 || !found[0].Equal(ends[1]) || !found[1].Equal(ends[0]) || parts != 3 {
			t.Errorf("%+v: found %v in %d parts, want %v in 3", f, found, parts, ends)
		}
	}
	later := ledger.ChargeFilter{Since: ends[1].Add(25 * time.Hour)}
	if list, next, err := store.Charges(t.Context(), later); err != nil || len(list) != 0 || next != "" {
		t.Errorf("a listing of what comes a day later goes on at %q, with %d charges, %v", next, len(list), err)
	}
}
