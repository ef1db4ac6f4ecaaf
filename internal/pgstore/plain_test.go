//go:build unix

package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// plainStates are queries for all rows that batches change. The queries leave out
// times, and columns that depend on the order of the operations in a batch.
var plainStates = []string{
	`SELECT format('%s %s %s %s %s %s', a.name, a.live + coalesce(sum(e.amount) FILTER (WHERE NOT e.test), 0),
		a.test + coalesce(sum(e.amount) FILTER (WHERE e.test), 0), a.live_reserved, a.test_reserved, a.idempotency_keys)
		FROM account a LEFT JOIN earning e ON e.account = a.n GROUP BY a.n ORDER BY 1`,
	`SELECT format('%s %s %s %s %s %s %s %s %s', a.name, c.holder, c.name, c.test, c.day, c.spent, c.held, c.free, c.waiting)
		FROM spend_counter c JOIN account a ON a.n = c.account WHERE (c.spent, c.held, c.free, c.waiting) <> (0, 0, 0, 0) ORDER BY 1`,
	`SELECT format('%s %s %s %s %s', r.id, a.name, b.name, c.name, row_to_json(x)) FROM reservation r
		JOIN account a ON a.n = r.payer JOIN account b ON b.n = r.payee LEFT JOIN account c ON c.n = r.fee_to
		CROSS JOIN LATERAL (SELECT r.key, r.lineage, r.server, r.tool, r.amount, r.fee, r.test, r.state, r.day, r.waived, r.key_call, r.key_day,
			r.key_month, r.server_call, r.server_day, r.server_month, r.free_calls, r.idempotency_hash IS NULL, r.fingerprint, r.settler) x ORDER BY 1`,
	`SELECT format('%s %s %s %s %s %s', CASE WHEN t.kind <> 5 THEN t.id END, a.name, b.name, c.name, y.id, row_to_json(x)) FROM txn t
		JOIN account a ON a.n = t.debtor JOIN account b ON b.n = t.creditor LEFT JOIN account c ON c.n = t.fee_to LEFT JOIN txn y ON y.seq = t.ref
		CROSS JOIN LATERAL (SELECT t.kind, t.amount, t.test, t.key, t.lineage, t.server, t.tool, t.day, t.waived, t.fee, t.settler, t.reason) x
		WHERE t.kind IN (1, 5) ORDER BY 1`,
	`SELECT format('%s %s %s', i.charge, i.captured_at IS NULL, i.body) FROM idempotency i ORDER BY 1`,
	`SELECT v.id::text FROM void v ORDER BY 1`,
}

// plainStore is a store with the accounts that the operations of this test use. All
// plainStores have the same account names, so that their rows can be compared.
type plainStore struct {
	*Store
	accounts []string // ids of three payers, two providers and the operator
}

func newPlainStore(t *testing.T) *plainStore {
	s := &plainStore{Store: fresh(t)}
	for i, balance := range []ledger.Amount{1 << 30, 400, 1 << 30, 0, 0, 0} {
		s.accounts = append(s.accounts, account(t, s.Store, fmt.Sprint("account", i), balance))
	}
	sandbox := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: s.accounts[0], Amount: 300, Test: true, Reason: "test"}
	if _, _, err := s.PostTransaction(t.Context(), sandbox, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	capped := `UPDATE account SET cap_day = 5000 WHERE name = 'account2'`
	if _, err := s.pool.Exec(t.Context(), capped); err != nil {
		t.Fatal(err)
	}
	return s
}

// plainStep is an operation to carry out on two stores. Its accounts are indexes into
// plainStore.accounts.
type plainStep struct {
	kind                    operationKind
	id                      uuid.UUID
	payer, provider, feeTo  int
	amount, fee             ledger.Amount
	test                    bool
	terms                   ledger.Terms
	lineage, settler, retry string
	response                []byte
}

// on returns the step as an operation on the store s.
func (p *plainStep) on(s *plainStore) *operation {
	o := &operation{kind: p.kind, id: p.id, terms: p.terms, response: p.response, done: make(chan struct{})}
	if o.ordered() {
		o.order = ledger.Order{
			Account: s.accounts[p.payer], Provider: s.accounts[p.provider], Key: "key", Lineage: p.lineage, Server: "server", Tool: "tool",
			Amount: p.amount, Fee: p.fee, Test: p.test, Settler: p.settler,
		}
		if p.fee > 0 {
			o.order.FeeTo = s.accounts[p.feeTo]
		}
		o.hash = hashOf(&ledger.Order{Lineage: p.lineage}, p.retry)
	}
	return o
}

// randomStep returns a random operation. More than half of these operations are plain:
// a batch carries them out together, in one statement. known has the ids of earlier
// operations.
func randomStep(random *rand.Rand, known []uuid.UUID) plainStep {
	seldom := func() bool { return random.IntN(12) == 0 }
	p := plainStep{kind: opReserve, id: ids.V7(), payer: random.IntN(2), provider: 3 + random.IntN(2), feeTo: 5, amount: 2 + ledger.Amount(random.IntN(40)), lineage: fmt.Sprint("lineage", random.IntN(2))}
	switch random.IntN(10) {
	case 0, 1, 2, 3:
	case 4, 5:
		p.kind = []operationKind{opCharge, opRelease, opRelease, opRenew, opVoid}[random.IntN(5)]
	default:
		p.kind = opCapture
	}
	if len(known) > 0 && (p.kind != opReserve && !seldom() || seldom()) {
		p.id = known[max(0, len(known)-1-random.IntN(15))]
	}
	if seldom() {
		p.payer = []int{2, 3, 5}[random.IntN(3)]
	}
	if seldom() && p.payer != p.provider {
		p.feeTo = p.payer // a provider cannot get its own fee: Order.Check refuses this
	}
	if seldom() {
		p.amount = 1 << 41
	}
	p.test = p.payer == 0 && random.IntN(3) == 0
	if random.IntN(2) == 0 {
		p.fee = 1
	}
	if seldom() {
		p.settler = "settler"
	}
	if seldom() {
		p.retry = fmt.Sprint("retry", random.IntN(8))
	}
	if p.kind == opCapture && seldom() {
		p.response = []byte("response")
	}
	switch random.IntN(20) {
	case 0:
		p.terms.FreeCalls = 3
	case 1:
		p.terms.Key.Day = 500
	case 2:
		p.terms.Server.Call = 20
	}
	return p
}

// TestPlainOperationsAreNoSpecialCase checks that a batch, which carries out its plain
// operations together in one statement, has the same result as operations that are
// carried out one by one. It carries out random batches on one store. On another store
// it carries out the same operations, each in a batch of its own: first those that
// succeeded in the batch, then those that were refused. The outcomes and the books of
// both stores must agree.
func TestPlainOperationsAreNoSpecialCase(t *testing.T) {
	batched, single := newPlainStore(t), newPlainStore(t)
	seed := uint64(clock.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var known []uuid.UUID
	done, refused := 0, 0
	for range 80 {
		var steps []plainStep
		var list []*operation
		for range 1 + random.IntN(12) {
			p := randomStep(random, known)
			if slices.ContainsFunc(steps, func(q plainStep) bool { return q.id == p.id }) {
				continue // no two operations of a batch share an id
			}
			steps, list = append(steps, p), append(list, p.on(batched))
		}
		raises, settles := false, false
		for _, p := range steps {
			known = append(known, p.id)
			releases := p.kind == opRelease || p.kind == opVoid
			raises = raises || releases || p.payer >= 3
			settles = settles || releases || p.kind == opCapture
		}
		batched.settles.carryOut(list)
		for _, wanted := range []bool{true, false} {
			for i, o := range list {
				if o.err != nil {
					t.Fatalf("operation %+v: %v", steps[i], o.err)
				}
				if (o.out.Code == codeDone) != wanted || raises && o.out.Code == codeInsufficient || settles && o.out.Code == codeInFlight {
					// Later in this batch, the balance may have been raised, or the other call
					// with this idempotency key may have been settled. The operation would have
					// another outcome now.
					continue
				}
				alone := steps[i].on(single)
				single.settles.carryOutAlone(alone)
				if got, want := plainOutcome(o), plainOutcome(alone); got != want {
					t.Fatalf("%+v\nin a batch: %s\nalone:      %s", steps[i], got, want)
				}
				if wanted {
					done++
				} else {
					refused++
				}
			}
		}
		comparePlain(t, batched, single)
	}
	t.Logf("%d operations done, %d refused", done, refused)
	clean(t, batched.Store)
	clean(t, single.Store)
}

// plainOutcome returns the parts of an outcome that do not depend on time, on the ids of
// accounts, or on the place in the batch.
func plainOutcome(o *operation) string {
	out := &o.out
	return fmt.Sprint(out.Code, out.Waived, out.Near, out.Charge, out.Key, out.Lineage, out.Server, out.Tool, out.Amount, out.Fee, out.Account == "",
		out.Provider == "", out.FeeTo == "", out.Test, out.Settler, out.Refunded, out.Made)
}

func comparePlain(t *testing.T, batched, single *plainStore) {
	t.Helper()
	for _, query := range plainStates {
		read := func(s *plainStore) []string {
			rows, err := s.pool.Query(context.Background(), query)
			if err != nil {
				t.Fatal(err)
			}
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		if got, want := read(batched), read(single); !slices.Equal(got, want) {
			t.Fatalf("%s\nafter batches:\n%q\nalone:\n%q", query, got, want)
		}
	}
}
