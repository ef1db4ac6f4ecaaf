//go:build unix

package pgstore

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// olderNode does what a node did before charges had somebody who settles them:
// it calls the functions of that schema, version 4, with the clock's shift.
type olderNode struct {
	*testing.T
	conn *pgx.Conn
}

func older(t *testing.T, dsn string) olderNode {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return olderNode{t, conn}
}

func (n olderNode) exec(query string, args ...any) {
	n.Helper()
	if _, err := n.conn.Exec(n.Context(), query, args...); err != nil {
		n.Fatal(err)
	}
}

// apply carries an operation out, alone, and returns its code.
func (n olderNode) apply(op int16, id string, o ledger.Order, terms ledger.Terms, answer []byte) (code int16) {
	n.Helper()
	u, err := parseID(chargePrefix, id)
	if err != nil {
		n.Fatal(err)
	}
	args := applyArgs([]*operation{{op: op, id: u, order: o, terms: terms, mark: markOf(&o, terms.Idempotency.Key), answer: answer}}, shift(), true)
	err = n.conn.QueryRow(n.Context(), `SELECT code
		FROM apply($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27)`, args[:27]...).Scan(&code)
	if err != nil {
		n.Fatal(err)
	}
	return code
}

func (n olderNode) post(p ledger.Transaction) {
	n.Helper()
	u, err := parseID(otherPrefix, p.ID)
	if err == nil {
		err = p.Complete()
	}
	if err != nil {
		n.Fatal(err)
	}
	args, err := (&posting{t: p}).args(u, &ledger.Audit{})
	if err != nil {
		n.Fatal(err)
	}
	args[0] = shift()
	n.exec(postQuery, args...)
}

func shift() int64 { return clock.Shift().Microseconds() }

// A database of the schema before is brought up to date with all that it had:
// balances, charges and their ids, refunds, open reservations, quotas, keys to
// repeat calls by, bonds and keys. It verifies, and nodes of the version before
// may go on beside.
func TestDatabaseOfAnOlderSchemaGoesOn(t *testing.T) {
	dsn := empty(t)
	old := older(t, dsn)
	names := map[string]string{}
	for _, name := range []string{"payer", "provider", "operator"} {
		names[name] = newID("acct_")
		old.exec(`INSERT INTO account (id, name, created_at, credit_limit, cap_day) VALUES ($1, $2, $4, 0, $3)`, names[name], name, map[string]int64{"payer": 700}[name], clock.Now())
	}
	for _, test := range []bool{false, true} {
		old.post(ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: names["payer"], Amount: 1000, Test: test, Reason: "top-up"})
	}
	o := order(names["payer"], names["provider"], 100)
	o.Fee, o.FeeTo = 10, names["operator"]
	test := o
	test.Test = true
	again := ledger.Terms{Idempotency: ledger.Idempotency{Key: "again", Fingerprint: [32]byte{1}}}
	plain, kept, free, sandboxed, open, gone := newID("chg_"), newID("chg_"), newID("chg_"), newID("chg_"), newID("chg_"), newID("chg_")
	for _, c := range []struct {
		op    int16
		id    string
		order ledger.Order
		terms ledger.Terms
	}{
		{opCharge, plain, o, ledger.Terms{}},
		{opCharge, kept, o, again},
		{opCharge, free, o, ledger.Terms{FreeCalls: 1000}},
		{opCharge, sandboxed, test, ledger.Terms{}},
		{opReserve, open, o, ledger.Terms{}},
		{opReserve, gone, o, ledger.Terms{}},
		{opRelease, gone, ledger.Order{}, ledger.Terms{}},
	} {
		if code := old.apply(c.op, c.id, c.order, c.terms, []byte("the answer")); code != codeDone {
			t.Fatalf("operation %d of %s: code %d", c.op, c.id, code)
		}
	}
	old.post(ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: plain, Amount: 40, Reason: "a part"})
	old.exec(`INSERT INTO bond (mark, account, until, payload) VALUES ($1, $2, $3, 'task')`, pgtype.UUID{Bytes: [16]byte{7}, Valid: true}, names["payer"], clock.Now().Add(time.Hour))
	digest := keys.Digest{9}
	old.exec(`INSERT INTO key (id, digest, account, lineage, kind, environment, name, hint, scopes, servers, created_at)
		VALUES ('key_1', $1, $2, 'key_1', 'agent', 'live', 'k', 'h', '["tools:*"]', '["weather"]', $3)`, digest[:], names["payer"], clock.Now())

	s := opened(t, Options{DSN: dsn})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if v := clean(t, s); v.Transactions != 11 {
		t.Errorf("it verifies %d transactions, want 11", v.Transactions)
	}
	if p := balanceOf(t, s, names["payer"]); p.Posted != 840 || p.Reserved != 100 {
		t.Errorf("the payer has %+v, want 840 and 100 reserved", p)
	}
	if p := balanceOf(t, s, names["operator"]); p.Posted != 16 {
		t.Errorf("the operator has %+v, want 16", p)
	}
	for id, terms := range map[string]ledger.Terms{plain: {}, kept: again, free: {FreeCalls: 1000}, sandboxed: {}} {
		want := o
		want.Test = id == sandboxed
		c, _, err := s.Charge(t.Context(), id, want, terms, nil)
		ok(err)
		if c.Made || c.Order != want || c.Waived != (id == free) || c.Refunded != map[string]ledger.Amount{plain: 40}[id] {
			t.Errorf("the charge is %+v", c)
		}
		want.Settler = "key_gateway"
		if _, _, err := s.Charge(t.Context(), id, want, terms, nil); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("the charge for somebody who settles: %v", err)
		}
	}
	c, _, err := s.Capture(t.Context(), open, nil)
	ok(err)
	if !c.Made || c.Order != o {
		t.Errorf("captured %+v", c)
	}
	if _, _, err := s.Capture(t.Context(), gone, nil); !errors.Is(err, ledger.ErrSettled) {
		t.Errorf("the capture of what was released: %v", err)
	}
	r, err := s.Reserve(t.Context(), newID("chg_"), o, again)
	ok(err)
	if r.First == nil || string(r.First.Body) != "the answer" {
		t.Errorf("sent again it gets %+v", r.First)
	}
	b, err := s.Binding(t.Context(), "weather", ledger.HandleHash{7})
	ok(err)
	if b.Account != names["payer"] || string(b.Payload) != "task" {
		t.Errorf("the bond is %+v", b)
	}
	if k, err := s.KeyByDigest(t.Context(), digest); err != nil || k.ID != "key_1" {
		t.Errorf("the key is %+v, %v", k, err)
	}

	// The node of the version before goes on.
	if code := old.apply(opCharge, newID("chg_"), o, ledger.Terms{}, nil); code != codeDone {
		t.Errorf("a charge by a node of before: code %d", code)
	}
	if code := old.apply(opCharge, newID("chg_"), withAmount(o, 301), ledger.Terms{}, nil); code != codeCapped {
		t.Errorf("a charge beyond the cap by a node of before: code %d", code)
	}
	clean(t, s)
	if p := balanceOf(t, s, names["payer"]); p.Posted != 640 || p.Reserved != 0 {
		t.Errorf("the payer has %+v, want 640", p)
	}
}

func withAmount(o ledger.Order, amount ledger.Amount) ledger.Order {
	o.Amount = amount
	return o
}
