//go:build unix

package pgstore

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgschema"
)

// olderNode calls SQL functions as a node of schema version 4 does: it passes all
// arguments by position, and passes no settler for charges.
type olderNode struct {
	*testing.T
	conn *pgx.Conn
}

func older(t *testing.T, dsn string, version int64) olderNode {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	files, err := fs.Sub(pgschema.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
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

// The operations and outcomes that older nodes know. Older nodes use numbers in
// place of names: the number of an operation is its index here plus 1, the number of
// an outcome is its index.
var (
	olderKinds = []operationKind{opReserve, opCapture, opCharge, opRelease, opRenew}
	olderCodes = []outcomeCode{codeDone, codeNoCharge, codeNoAccount, codeConflict, codeSettled, codeInsufficient, codeCapped, codeInFlight,
		codeReused, codeReplay, codeTooManyKeys, codeOverflow, codeAlone}
)

// apply carries out one operation in a batch of its own, and returns the code.
func (n olderNode) apply(kind operationKind, id string, o ledger.Order, terms ledger.Terms, answer []byte) outcomeCode {
	n.Helper()
	code, err := n.try(kind, id, o, terms, answer)
	if err != nil {
		n.Fatal(err)
	}
	return code
}

func (n olderNode) try(kind operationKind, id string, o ledger.Order, terms ledger.Terms, answer []byte) (outcomeCode, error) {
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return "", err
	}
	mark, print := []pgtype.UUID{{}}, [][]byte{nil}
	if h := hashOf(&o, terms.Idempotency.Key); h != nil {
		mark[0], print[0] = asUUID(*h), terms.Idempotency.Fingerprint[:]
	}
	var code int16
	err = n.conn.QueryRow(n.Context(), `SELECT code
		FROM apply($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27)`,
		shift(), true, int64(1<<22), int64(1<<20), []int16{int16(slices.Index(olderKinds, kind) + 1)}, []pgtype.UUID{asUUID(u)},
		[]string{o.Account}, []string{o.Provider}, []string{o.Key}, []string{o.Lineage}, []string{o.Server}, []string{o.Tool},
		[]int64{int64(o.Amount)}, []int64{int64(o.Fee)}, []string{o.FeeTo}, []bool{o.Test}, []int64{0}, []int64{0}, []int64{0},
		[]int64{0}, []int64{0}, []int64{0}, []int64{terms.FreeCalls}, mark, print, [][]byte{answer}, []pgtype.UUID{asUUID(ids.V7())}).Scan(&code)
	return olderCodes[code], err
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
	a := postArgs(u, &p, &ledger.Audit{})
	var code int16
	err = n.conn.QueryRow(n.Context(), `SELECT code FROM post($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`,
		shift(), a["id"], a["kind"], a["debtor"], a["creditor"], a["amount"], a["test"], a["reason"], a["charge"], a["fee_id"],
		a["audit_at"], a["actor"], a["origin"], a["action"], a["target"], a["detail"]).Scan(&code)
	if err != nil || olderCodes[code] != codeDone {
		n.Fatalf("posting: code %d, %v", code, err)
	}
}

// olderQueries are statements that nodes of schema versions 4 and 8 send. They use
// names that migration 9 changed.
var olderQueries = []string{
	`SELECT a.n, (a.live + coalesce(e.live, 0))::bigint, (a.sandbox + coalesce(e.sandbox, 0))::bigint, (a.sandbox_reserved - coalesce(r.sandbox, 0))::bigint
		FROM (SELECT moved_clock(0) AS now OFFSET 0) clock CROSS JOIN account a
		CROSS JOIN LATERAL (
			SELECT sum(x.amount) FILTER (WHERE NOT x.sandbox) AS live, sum(x.amount) FILTER (WHERE x.sandbox) AS sandbox
			FROM earning x WHERE x.account = a.n
		) e
		CROSS JOIN LATERAL (
			SELECT sum(x.amount) FILTER (WHERE NOT x.sandbox) AS live, sum(x.amount) FILTER (WHERE x.sandbox) AS sandbox
			FROM reservation x WHERE x.payer = a.n AND x.state = 1 AND NOT x.waived
				AND x.expires_at > least(a.swept_to, clock.now) AND x.expires_at <= clock.now
		) r WHERE a.n > 0`,
	`SELECT t.seq, t.sandbox FROM txn t WHERE t.seq > 0`,
	`SELECT r.sandbox FROM reservation r`,
	`SELECT sum(m.spent) FROM account a LEFT JOIN meter m ON m.account = a.n AND m.sandbox = false AND m.day BETWEEN 1 AND 2 GROUP BY a.n`,
	`SELECT fingerprint, size, body FROM retry WHERE mark = gen_random_uuid() AND charge = gen_random_uuid()`,
	`INSERT INTO bond (mark, server, account, until, payload) VALUES (gen_random_uuid(), 's', 'a', now(), '')
		ON CONFLICT (mark, server) DO UPDATE SET account = excluded.account, until = excluded.until, payload = excluded.payload`,
	`SELECT account, until, payload FROM bond WHERE mark = gen_random_uuid() AND server IN ('s', '') AND until > moved_clock(0) ORDER BY server DESC LIMIT 1`,
	`INSERT INTO claim AS c (mark, until) VALUES ('0123456789abcdef', clock_timestamp() + interval '1 hour')
		ON CONFLICT (mark) DO UPDATE SET until = excluded.until WHERE c.until < clock_timestamp()`,
	`UPDATE claim SET until = clock_timestamp() + interval '1 hour' WHERE mark = '0123456789abcdef'`,
	`DELETE FROM claim WHERE mark = '0123456789abcdef'`,
	`SELECT tidy_reservations(0, 1)`, `SELECT tidy_earnings(1)`, `SELECT tidy_retries(0, 1)`, `SELECT tidy_old(0, 1000000000000, 1)`,
	`SELECT tidy_nodes('1 hour')`, `SELECT tidy_answers(1000000)`,
}

func shift() int64 { return clock.Shift().Microseconds() }

// TestDatabaseOfAnOlderSchemaGoesOn checks that migrating a database of schema
// version 4 keeps all its data: balances, charges and their ids, refunds, open
// reservations, quotas, idempotency keys, bindings and keys. After the migration
// Verify finds no differences, and nodes of version 4 still work.
func TestDatabaseOfAnOlderSchemaGoesOn(t *testing.T) {
	dsn := empty(t)
	old := older(t, dsn, 4)
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
		kind  operationKind
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
		if code := old.apply(c.kind, c.id, c.order, c.terms, []byte("the answer")); code != codeDone {
			t.Fatalf("%s of %s: code %s", c.kind, c.id, code)
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
			t.Errorf("the charge with a settler: %v", err)
		}
	}
	c, _, err := s.Capture(t.Context(), open, nil)
	ok(err)
	if !c.Made || c.Order != o {
		t.Errorf("captured %+v", c)
	}
	if _, _, err := s.Capture(t.Context(), gone, nil); !errors.Is(err, ledger.ErrSettled) {
		t.Errorf("the capture of a released reservation: %v", err)
	}
	r, err := s.Reserve(t.Context(), newID("chg_"), o, again)
	ok(err)
	if r.First == nil || string(r.First.Body) != "the answer" {
		t.Errorf("sent again it gets %+v", r.First)
	}
	b, err := s.Binding(t.Context(), "weather", ledger.HandleHash{7})
	ok(err)
	if b.Account != names["payer"] || string(b.Payload) != "task" {
		t.Errorf("the binding is %+v", b)
	}
	if k, err := s.KeyByDigest(t.Context(), digest); err != nil || k.ID != "key_1" {
		t.Errorf("the key is %+v, %v", k, err)
	}

	// The node of version 4 still works.
	for _, q := range olderQueries {
		old.exec(q)
	}
	if code := old.apply(opCharge, newID("chg_"), o, ledger.Terms{}, nil); code != codeDone {
		t.Errorf("a charge by the older node: code %s", code)
	}
	if code := old.apply(opCharge, newID("chg_"), withAmount(o, 301), ledger.Terms{}, nil); code != codeCapped {
		t.Errorf("a charge beyond the cap by the older node: code %s", code)
	}
	clean(t, s)
	if p := balanceOf(t, s, names["payer"]); p.Posted != 640 || p.Reserved != 0 {
		t.Errorf("the payer has %+v, want 640", p)
	}
}

// TestNodesOfSchemaVersion8GoOn checks that a node of schema version 8 keeps
// charging during and after the migration by a newer node. At most the charge in
// progress is refused, and the books balance.
func TestNodesOfSchemaVersion8GoOn(t *testing.T) {
	dsn := empty(t)
	old := older(t, dsn, 8)
	payer, payee := newID("acct_"), newID("acct_")
	old.exec(`INSERT INTO account (id, name, created_at, credit_limit) VALUES ($1, 'payer', now(), 0), ($2, 'payee', now(), 0)`, payer, payee)
	old.post(ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: payer, Amount: 1 << 30, Reason: "top-up"})
	var charged, refused atomic.Int64
	stop := make(chan struct{})
	var node sync.WaitGroup
	node.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if code, err := old.try(opCharge, newID("chg_"), order(payer, payee, 1), ledger.Terms{}, nil); err != nil || code != codeDone {
				refused.Add(1)
				t.Logf("refused: %s, %v", code, err)
				continue
			}
			charged.Add(1)
		}
	})
	eventually(t, "the old node charges", func() bool { return charged.Load() > 5 })
	s, err := Open(t.Context(), Options{DSN: dsn})
	before := charged.Load()
	eventually(t, "the old node charges after the migration", func() bool { return charged.Load() > before+5 || refused.Load() > 1 })
	close(stop)
	node.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if refused.Load() > 1 {
		t.Errorf("%d charges were refused, want at most one", refused.Load())
	}
	if p := balanceOf(t, s, payer); p.Posted != 1<<30-ledger.Amount(charged.Load()) {
		t.Errorf("the balance is %s after %d charges", p.Posted, charged.Load())
	}
	clean(t, s)
}

func withAmount(o ledger.Order, amount ledger.Amount) ledger.Order {
	o.Amount = amount
	return o
}
