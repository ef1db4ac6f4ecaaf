package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runRaces(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"promise 3: 64 callers on a balance for 10 calls get exactly 10", raceOverdraw},
		named{"promise 3: 64 conditional charges on a balance for 10 get exactly 10", raceCharge},
		named{"promise 4: 32 captures of one charge take the money once", raceCapture},
		named{"a capture that races a release: exactly one wins", raceRelease},
		named{"a capture that races expiry never overdraws", raceExpiry},
		named{"a mixed load balances in the end", raceHammer},
	)
}

func moneyCancelled(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	id := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, order(payer, payee, price), ledger.Terms{})
	t.ok(err)
	gone, cancel := context.WithCancel(t.ctx)
	cancel()
	_, _, err = t.Store.Capture(gone, id, nil)
	t.want(err, context.Canceled)
	_, _, err = t.Store.Charge(gone, newID("chg_"), order(payer, payee, price), ledger.Terms{}, nil)
	t.want(err, context.Canceled)
	_, err = t.Store.Reserve(gone, newID("chg_"), order(payer, payee, price), ledger.Terms{})
	t.want(err, context.Canceled)
	t.holds(payer, price, price)
	_, _, err = t.Store.Capture(t.ctx, id, nil) // the failed calls have left the reservation open
	t.ok(err)
	t.balanced(2)
}

// together runs n callers at once and waits for them.
func together(n int, call func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	group.Wait()
}

// tally counts outcomes, and keeps one unexpected error.
type tally struct {
	won, lost atomic.Int64
	other     atomic.Pointer[error]
}

func (y *tally) add(err error, losing ...error) {
	if err == nil {
		y.won.Add(1)
		return
	}
	for _, l := range losing {
		if errors.Is(err, l) {
			y.lost.Add(1)
			return
		}
	}
	y.other.Store(&err)
}

func (y *tally) check(t *test, won, lost int64) {
	t.Helper()
	if err := y.other.Load(); err != nil {
		t.Fatalf("unexpected error: %v", *err)
	}
	if y.won.Load() != won || y.lost.Load() != lost {
		t.Fatalf("%d won and %d lost, want %d and %d", y.won.Load(), y.lost.Load(), won, lost)
	}
}

func raceOverdraw(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	var y tally
	together(64, func(int) {
		id := newID("chg_")
		_, err := t.Store.Reserve(t.ctx, id, order(payer, payee, price), ledger.Terms{})
		if err == nil {
			_, _, err = t.Store.Capture(t.ctx, id, nil)
		}
		y.add(err, ledger.ErrInsufficient)
	})
	y.check(t, 10, 54)
	t.holds(payer, 0, 0)
	t.holds(payee, 10*price, 0)
	t.balanced(11)
}

func raceCharge(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	var y tally
	together(64, func(int) {
		_, _, err := t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, price), ledger.Terms{}, nil)
		y.add(err, ledger.ErrInsufficient)
	})
	y.check(t, 10, 54)
	t.holds(payer, 0, 0)
	t.balanced(11)
}

func raceCapture(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id, o := newID("chg_"), order(payer, payee, price)
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	var y tally
	var ats sync.Map
	var made atomic.Int64
	together(32, func(i int) {
		var c ledger.Charge
		var err error
		if i%2 == 0 {
			c, _, err = t.Store.Capture(t.ctx, id, nil)
		} else {
			c, _, err = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
		}
		if c.Made {
			made.Add(1)
			c.Made = false
		}
		ats.Store(c, true)
		y.add(err)
	})
	y.check(t, 32, 0)
	outcomes := 0
	ats.Range(func(any, any) bool { outcomes++; return true })
	if outcomes != 1 || made.Load() != 1 {
		t.Fatalf("%d different outcomes of one charge, which %d captures made", outcomes, made.Load())
	}
	t.holds(payer, 9*price, 0)
	t.balanced(2)
}

func raceRelease(t *test) {
	const rounds = 40
	payer, payee := t.account("payer", rounds*price, 0), t.account("payee", 0, 0)
	captured := ledger.Amount(0)
	for range rounds {
		id := newID("chg_")
		_, err := t.Store.Reserve(t.ctx, id, order(payer, payee, price), ledger.Terms{})
		t.ok(err)
		var y tally
		var paid atomic.Bool
		together(2, func(i int) {
			if i == 0 {
				_, _, err := t.Store.Capture(t.ctx, id, nil)
				paid.Store(err == nil)
				y.add(err, ledger.ErrSettled)
				return
			}
			y.add(t.Store.Release(t.ctx, id), ledger.ErrSettled)
		})
		y.check(t, 1, 1)
		if paid.Load() {
			captured += price
		}
	}
	t.holds(payer, rounds*price-captured, 0)
	t.holds(payee, captured, 0)
	t.balanced(1 + int64(captured/price))
}

func raceExpiry(t *test) {
	const rounds = 30
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	for round := range rounds {
		first, second := newID("chg_"), newID("chg_")
		_, err := t.Store.Reserve(t.ctx, first, order(payer, payee, price), ledger.Terms{})
		t.ok(err)
		// The first reservation expires while it is captured and while a second id is
		// charged. Exactly one of these two takes the credits.
		var y tally
		together(3, func(i int) {
			switch i {
			case 0:
				t.Advance(ledger.ReservationLife + time.Second)
			case 1:
				_, _, err := t.Store.Capture(t.ctx, first, nil)
				y.add(err, ledger.ErrInsufficient)
			case 2:
				_, _, err := t.Store.Charge(t.ctx, second, order(payer, payee, price), ledger.Terms{}, nil)
				y.add(err, ledger.ErrInsufficient)
			}
		})
		if y.won.Load() != 1 {
			t.Fatalf("round %d: %d of two captures on a balance for one succeeded", round, y.won.Load())
		}
		t.holds(payer, 0, 0)
		t.credit(payer, price, false)
	}
	t.balanced(1 + 2*rounds)
}

// raceHammer runs all operations concurrently. It checks that the books agree with the
// results that the callers got.
func raceHammer(t *test) {
	const callers, calls = 16, 60
	accounts := []string{
		t.account("a", 50*price, 0), t.account("b", 50*price, 10*price), t.account("c", 0, 0),
	}
	var paid, credited, refunded atomic.Int64
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	failed := make(chan error, callers)
	together(callers, func(i int) {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		failed <- t.hammer(random, accounts, calls, &paid, &credited, &refunded)
	})
	for range callers {
		t.ok(<-failed)
	}
	t.Advance(2 * ledger.ReservationLife)
	if n := t.Store.OpenReservations(); n != 0 {
		t.Fatalf("%d reservations are open after all expired", n)
	}
	if n := int64(len(t.charges(ledger.ChargeFilter{}))); n != paid.Load() {
		t.Fatalf("the books have %d charges, the callers were told of %d", n, paid.Load())
	}
	t.balanced(2 + paid.Load() + credited.Load() + refunded.Load())
}

func (t *test) hammer(random *rand.Rand, accounts []string, calls int, paid, credited, refunded *atomic.Int64) error {
	pick := func() string { return accounts[random.IntN(len(accounts))] }
	for range calls {
		id := newID("chg_")
		o := order(pick(), pick(), ledger.Amount(1+random.IntN(int(2*price))))
		_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
		if errors.Is(err, ledger.ErrInsufficient) {
			continue
		}
		if err != nil {
			return err
		}
		switch random.IntN(6) {
		case 0:
			err = t.Store.Release(t.ctx, id)
		case 1: // renew the reservation, and then leave it to expire
			err = t.Store.Renew(t.ctx, id)
		case 2:
			_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: o.Account, Amount: price}, t.audit("credit", o.Account))
			credited.Add(1)
		case 3:
			if _, _, err = t.Store.Capture(t.ctx, id, nil); err == nil {
				paid.Add(1)
				refunded.Add(1)
				_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id}, t.audit("refund", id))
			}
		default:
			paid.Add(1)
			_, _, err = t.Store.Capture(t.ctx, id, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
