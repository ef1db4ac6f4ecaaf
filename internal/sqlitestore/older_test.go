package sqlitestore

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// older unpacks testdata/schema-1.db.gz and migrates it to the given version. A Farebox
// with schema version 1 made that store and closed it at olderAt. The store has a
// payer, a provider and an operator; two top-ups; a binding; and a key. It also has
// five charges of one order: two plain ones, one with the idempotency key "again" and a
// response, one paid by a free quota, and one from the test balance. The first charge
// is refunded in part.
func older(t *testing.T, version int64) (path string) {
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
	migrateTo(t, path, version)
	return path
}

// migrateTo applies the migrations up to the version. From version 3 on, it adds a
// binding with a server, as a Farebox of that version would.
func migrateTo(t *testing.T, path string, version int64) {
	t.Helper()
	db, err := openWriter(t.Context(), path, plainConnect)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	if version < 3 {
		return
	}
	hash := ledger.HandleHash{8}
	table := `bond (mark, server, account, until, payload)`
	if version >= 6 {
		table = `binding (handle_hash, server, account, until, payload)`
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO `+table+` VALUES (?, 'weather', ?, ?, CAST('new' AS BLOB))`,
		hash[:], olderID("acct_", "01"), micros(olderAt.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
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

// TestStoresOfOlderSchemasGoOn checks that a store of each earlier schema opens
// with its balances, charges and their ids, refunds, caps, quotas, idempotency
// keys, bindings and keys. The store verifies before and after archiving.
func TestStoresOfOlderSchemasGoOn(t *testing.T) {
	t.Parallel()
	latest, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for version := int64(1); version < latest; version++ {
		t.Run(fmt.Sprint("schema ", version), func(t *testing.T) {
			t.Parallel()
			goesOn(t, version)
		})
	}
}

func goesOn(t *testing.T, version int64) {
	now := olderAt.Add(time.Minute)
	options := Options{Path: older(t, version), Now: func() time.Time { return now }}
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

	// Charging again with the same ids returns the existing charges.
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
			t.Errorf("charge %s by a settler: %v", last, err)
		}
	}
	// A repetition of the call with an idempotency key gets the stored response.
	again := ledger.Terms{Idempotency: ledger.Idempotency{Key: "again", Fingerprint: [32]byte{1}}}
	r, err := s.Reserve(t.Context(), newID("chg_"), o, again)
	ok(err)
	if r.First == nil || string(r.First.Body) != "the answer" || r.First.Charge.ID != olderID("chg_", "22") {
		t.Errorf("the repeated call gets %+v", r.First)
	}
	// The binding of schema version 1 has no server. The later binding has a server.
	bindings := map[byte]string{7: "task"}
	if version >= 3 {
		bindings[8] = "new"
	}
	for hash, payload := range bindings {
		b, err := s.Binding(t.Context(), "weather", ledger.HandleHash{hash})
		ok(err)
		if b.Account != o.Account || string(b.Payload) != payload {
			t.Errorf("the binding is %+v", b)
		}
	}
	k, err := s.KeyByDigest(t.Context(), keys.Digest{9})
	ok(err)
	if k.ID != "key_2" || k.Lineage != "key_1" || !reflect.DeepEqual(k.Servers, []string{"weather"}) || !reflect.DeepEqual(k.Scopes, []string{"tools:*"}) {
		t.Errorf("the key is %+v", k)
	}
	if rows, _, err := s.AuditLog(t.Context(), ledger.AuditFilter{}); err != nil || len(rows) != 7 {
		t.Errorf("%d audit rows, want 7, %v", len(rows), err)
	}

	// The store keeps the currency that it recorded first.
	ok(s.UseCurrency(t.Context(), "EUR"))
	if err := s.UseCurrency(t.Context(), "USD"); err == nil {
		t.Error("two currencies in one store")
	}
	// Refund a charge a second time, and make a charge of 200 with a settler. The
	// cap of the day is 500, and 300 are spent, so that only one such charge is
	// allowed.
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

	// Archive the first 13 transactions, which are those that the older Farebox
	// wrote.
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
