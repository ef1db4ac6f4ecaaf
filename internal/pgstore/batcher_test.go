//go:build unix

package pgstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// TestBadOrderFailsAlone adds to a batch an order that the database cannot store.
// Only this order fails. The rest of the batch is carried out in sequence.
func TestBadOrderFailsAlone(t *testing.T) {
	s := fresh(t)
	payer, payee := account(t, s, "payer", 100), account(t, s, "payee", 0)
	charge := func(amount ledger.Amount, server string) *operation {
		o := order(payer, payee, amount)
		o.Server = server
		return &operation{kind: opCharge, id: ids.V7(), order: o, done: make(chan struct{})}
	}
	var long strings.Builder // as the name of a server, this text is too long for an index of the database
	for range 500 {
		long.WriteString(uuid.NewString())
	}
	good, bad := charge(60, "s"), charge(1, long.String())
	large, other, last := charge(50, "s"), charge(30, "s"), charge(10, "s")
	s.settles.carryOut([]*operation{good, bad, large, other, last})
	for what, o := range map[string]*operation{"before": good, "after": other, "last": last} {
		if o.err != nil || o.refusal() != nil {
			t.Errorf("the good order %s the bad one: %v, %v", what, o.err, o.refusal())
		}
	}
	if !errors.Is(bad.err, ledger.ErrUnavailable) {
		t.Errorf("the bad order: %v", bad.err)
	}
	if err := large.refusal(); !errors.Is(err, ledger.ErrInsufficient) {
		t.Errorf("an order that the balance does not allow: %v", err)
	}
	if p := balanceOf(t, s, payer); p.Posted != 0 {
		t.Errorf("the balance is %+v", p)
	}
	if v := clean(t, s); v.Transactions != 4 {
		t.Errorf("%d transactions", v.Transactions)
	}
}

// TestBatchIsExact checks that a refused operation takes nothing from the balance, the
// caps and the quotas that later operations of the same batch need. The prices of the
// operations differ.
func TestBatchIsExact(t *testing.T) {
	s := fresh(t)
	payer, payee := account(t, s, "payer", 100), account(t, s, "payee", 0)
	terms := ledger.Terms{FreeCalls: 1, Server: ledger.Caps{Day: 40, Month: 45}, Key: ledger.Caps{Call: 30}}
	var list []*operation
	for _, amount := range []ledger.Amount{7, 31, 30, 11, 10, 5, 1, 0} {
		o := &operation{kind: opReserve, id: ids.V7(), order: order(payer, payee, amount), terms: terms, done: make(chan struct{})}
		if amount == 0 {
			o.kind = opRenew // this renewal is refused, because the id has no reservation
		}
		list = append(list, o)
	}
	s.reserves.carryOut(list)
	want := []error{nil, ledger.ErrCapped, nil, ledger.ErrCapped, nil, ledger.ErrCapped, ledger.ErrCapped, ledger.ErrNotFound}
	for i, o := range list {
		if err := o.refusal(); o.err != nil || !errors.Is(err, want[i]) {
			t.Errorf("operation %d of %s: %v, %v, want %v", i, o.order.Amount, o.err, err, want[i])
		}
	}
	if !list[0].out.Waived || list[2].out.Waived {
		t.Errorf("the free call is not the first one")
	}
	if p := balanceOf(t, s, payer); p != (ledger.Balance{Posted: 100, Reserved: 40}) {
		t.Errorf("the balance is %+v", p)
	}
	clean(t, s)
}

// TestAnyTextCanBeStored checks names that PostgreSQL cannot store as they are, for
// example with zero bytes. Such a name is read back unchanged, and makes no batch fail.
func TestAnyTextCanBeStored(t *testing.T) {
	s := fresh(t)
	payer, payee := account(t, s, "payer", 100), account(t, s, "payee", 0)
	for _, text := range []string{"", "a\x00b", "\xff\xfe", "\x01", "\x01\"quoted\"", "ö\u2028", "\x01\x00"} {
		if got := pgvalue.Unpack(pgvalue.Pack(text)); got != text {
			t.Errorf("%q comes back as %q", text, got)
		}
		o := order(payer, payee, 1)
		o.Key, o.Lineage, o.Server, o.Tool = text+"k", text+"l", text, text
		charge := newID("chg_")
		if _, err := s.Reserve(t.Context(), charge, o, ledger.Terms{Idempotency: ledger.Idempotency{Key: text}}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		c, _, err := s.Capture(t.Context(), charge, []byte(text))
		if err != nil || c.Order != o {
			t.Errorf("captured %+v, %v, want %+v", c, err, o)
		}
		if c, err = s.ChargeByID(t.Context(), charge); err != nil || c.Order != o {
			t.Errorf("read %+v, %v, want %+v", c, err, o)
		}
	}
	clean(t, s)
}

// held locks the row of an account, as a batch of another node does, until the returned
// function is called.
func held(t *testing.T, s *Store, account string) (release func()) {
	t.Helper()
	tx, err := s.pool.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), `SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE`, account); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.Background()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	}
}

// TestOrphanedReservation checks callers that leave before they have an outcome. If the
// caller leaves while its batch runs, its reservation is released. If the caller leaves
// while its operation is still in the queue, nothing is reserved.
func TestOrphanedReservation(t *testing.T) {
	s := fresh(t)
	payer, payee := account(t, s, "payer", 100), account(t, s, "payee", 0)
	release := held(t, s, payer)
	ctx, leave := context.WithCancel(t.Context())
	first := &operation{kind: opReserve, id: ids.V7(), order: order(payer, payee, 60)}
	second := &operation{kind: opReserve, id: ids.V7(), order: order(payer, payee, 30)}
	answers := make(chan error, 2)
	go func() { answers <- s.reserves.submit(ctx, first) }()
	eventually(t, "the first operation is under way", func() bool { return first.state.Load() == opTaken })
	go func() { answers <- s.reserves.submit(ctx, second) }()
	eventually(t, "the second operation is queued", func() bool { return len(s.reserves.queue) == 1 })
	leave()
	for range 2 {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left got %v", err)
		}
	}
	release()
	eventually(t, "the reservation is given back", func() bool {
		var n int
		err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM reservation WHERE id = $1 AND state = 2`, asUUID(first.id)).Scan(&n)
		return err == nil && n == 1
	})
	if p := balanceOf(t, s, payer); p != (ledger.Balance{Posted: 100}) {
		t.Errorf("the balance is %+v", p)
	}
	if err := s.Release(t.Context(), chargePrefix+second.id.String()); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("releasing what was never reserved: %v", err)
	}
	clean(t, s)
}
