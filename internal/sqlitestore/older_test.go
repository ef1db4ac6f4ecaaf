package sqlitestore

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// older unpacks testdata/schema-1.db.gz: a store that a Farebox of schema
// version 1 made, and closed, at olderAt. It has a payer, a provider and an
// operator, two top-ups, five charges of one order (two plain, one with the key
// "again" and its answer, one by a free quota, one in the sandbox), a refund of a
// part of the first, a bond, and a key.
func older(t *testing.T) (path string) {
	t.Helper()
	packed, err := os.Open("testdata/schema-1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(memoryDir(t), "farebox.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var olderAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func olderID(prefix, last string) string {
	return prefix + "019aab00-0000-7000-8000-0000000000" + last
}

func olderOrder() ledger.Order {
	return ledger.Order{
		Account: olderID("acct_", "01"), Provider: olderID("acct_", "02"), Key: "key_2", Lineage: "key_1", Server: "weather", Tool: "forecast",
		Amount: 100, Fee: 10, FeeTo: olderID("acct_", "03"),
	}
}

// A store of the first schema is opened, and goes on with all that it had:
// balances, charges and their ids, refunds, caps, quotas, keys to repeat calls
// by, bonds and keys. It verifies, now and after it was archived.
func TestStoreOfTheFirstSchemaGoesOn(t *testing.T) {
	t.Parallel()
	now := olderAt.Add(time.Minute)
	options := Options{Path: older(t), Now: func() time.Time { return now }}
	s := opened(t, options)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	has := func(last string, live, test ledger.Amount) {
		t.Helper()
		a, err := s.Account(t.Context(), olderID("acct_", last))
		ok(err)
		if a.Live.Posted != live || a.Test.Posted != test || a.Live.Reserved != 0 {
			t.Errorf("account %s has %+v and %+v, want %d and %d", a.Name, a.Live, a.Test, live, test)
		}
	}
	if v := clean(t, s); v.Transactions != 13 || v.Accounts != 4 {
		t.Errorf("it verifies %d transactions of %d accounts, want 13 of 4", v.Transactions, v.Accounts)
	}
	has("01", 740, 900)
	has("02", 234, 90)
	has("03", 26, 10)

	// The charges, which are not made again.
	o := olderOrder()
	for last, terms := range map[string]ledger.Terms{"20": {}, "21": {}, "23": {FreeCalls: 1000}, "24": {}} {
		want := o
		want.Test = last == "24"
		c, _, err := s.Charge(t.Context(), olderID("chg_", last), want, terms, nil)
		ok(err)
		if c.Made || c.Order != want || c.Waived != (last == "23") || !c.At.Equal(olderAt) || c.Refunded != map[string]ledger.Amount{"20": 40}[last] {
			t.Errorf("charge %s is %+v", last, c)
		}
		mine := want
		mine.Settler = "key_gateway"
		if _, _, err := s.Charge(t.Context(), olderID("chg_", last), mine, terms, nil); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("charge %s for somebody who settles: %v", last, err)
		}
	}
	// The call that is sent again.
	again := ledger.Terms{Idempotency: ledger.Idempotency{Key: "again", Fingerprint: [32]byte{1}}}
	r, err := s.Reserve(t.Context(), newID("chg_"), o, again)
	ok(err)
	if r.First == nil || string(r.First.Body) != "the answer" || r.First.Charge.ID != olderID("chg_", "22") {
		t.Errorf("sent again it gets %+v", r.First)
	}
	// The bond, at whichever server.
	b, err := s.Binding(t.Context(), "weather", ledger.HandleHash{7})
	ok(err)
	if b.Account != o.Account || string(b.Payload) != "task" {
		t.Errorf("the bond is %+v", b)
	}
	k, err := s.KeyByDigest(t.Context(), keys.Digest{9})
	ok(err)
	if k.ID != "key_2" || k.Lineage != "key_1" || !reflect.DeepEqual(k.Servers, []string{"weather"}) || !reflect.DeepEqual(k.Scopes, []string{"tools:*"}) {
		t.Errorf("the key is %+v", k)
	}
	if rows, _, err := s.AuditLog(t.Context(), ledger.Page{}); err != nil || len(rows) != 7 {
		t.Errorf("%d audit rows, want 7, %v", len(rows), err)
	}

	// It takes no currency for its own before it is told one.
	ok(s.UseCurrency(t.Context(), "EUR"))
	if err := s.UseCurrency(t.Context(), "USD"); err == nil {
		t.Error("two currencies in one store")
	}
	// A refund of what was refunded in part, and a charge that somebody may settle,
	// which the cap of the day allows once: 300 of 500 were spent.
	_, _, err = s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: olderID("chg_", "20"), Reason: "the rest"}, ledger.Audit{})
	ok(err)
	o.Settler, o.Amount, o.Fee = "key_gateway", 200, 20
	_, _, err = s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil)
	ok(err)
	if _, _, err = s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); !errors.Is(err, ledger.ErrCapped) {
		t.Errorf("a charge beyond the cap of the day: %v", err)
	}
	ok(s.Close())
	s = opened(t, options)
	clean(t, s)
	has("01", 600, 900)
	has("02", 360, 90)
	has("03", 40, 10)

	// What is archived of it is what the store of the first schema wrote.
	now = now.Add(40 * 24 * time.Hour)
	_, _, err = s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: olderID("chg_", "21"), Amount: 10, Reason: "late"}, ledger.Audit{})
	ok(err)
	p, err := s.ArchivePart(t.Context(), ledger.ArchiveQuery{Most: 13})
	ok(err)
	if len(p.Entries) != 13 {
		t.Fatalf("%d transactions are to be archived, want 13", len(p.Entries))
	}
	ok(s.Archive(t.Context(), &p, ledger.Sum{1}, ledger.Audit{}))
	clean(t, s)
	ok(s.Close())
	s = opened(t, options)
	clean(t, s)
	has("01", 610, 900)
	if _, _, err := s.Charge(t.Context(), olderID("chg_", "21"), olderOrder(), ledger.Terms{}, nil); !errors.Is(err, ledger.ErrArchived) {
		t.Errorf("an archived charge is made again: %v", err)
	}
}
