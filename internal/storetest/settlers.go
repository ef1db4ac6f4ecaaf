package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runSettlers(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"the settler is a part of the order, also after a crash", settlerKept},
		named{"a voided charge is never captured", voidIsFinal},
		named{"a charge that was voided before it arrived is never captured", voidUnknown},
		named{"a captured charge cannot be voided", voidCaptured},
		named{"if voids race captures, one side wins", voidRaces},
		named{"a void lasts for SettleTime and then ends, and later voids still work", voidEnds},
	)
}

// settled returns an order with a settler.
func settled(payer, payee, settler string) ledger.Order {
	o := order(payer, payee, price)
	o.Settler = settler
	return o
}

func settlerKept(t *test) {
	if t.Derives { // a platform sets the settler of each order itself
		return
	}
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	for _, settler := range []string{"key_a", "key_b", "", "key_a"} {
		id, mine, other := newID("chg_"), settled(payer, payee, settler), settled(payer, payee, "key_other")
		is := func() {
			t.Helper()
			o, err := t.Store.OrderByID(t.ctx, id)
			t.ok(err)
			t.same(o, mine)
			_, err = t.Store.Reserve(t.ctx, id, other, ledger.Terms{})
			t.want(err, ledger.ErrConflict)
			_, _, err = t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil)
			t.want(err, ledger.ErrConflict)
		}
		_, err := t.Store.Reserve(t.ctx, id, mine, ledger.Terms{})
		t.ok(err)
		is()
		c, _, err := t.Store.Capture(t.ctx, id, nil)
		t.ok(err)
		t.same(c.Order, mine)
		is()
		t.Store = t.Crash()
		o, err := t.Store.OrderByID(t.ctx, id)
		t.ok(err)
		t.same(o, mine)
		_, _, err = t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil)
		t.want(err, ledger.ErrConflict)
		again, _, err := t.Store.Charge(t.ctx, id, mine, ledger.Terms{}, nil)
		t.ok(err)
		t.same(again, t.made(c))
	}
	t.holds(payer, 6*price, 0)
	t.balanced(5)
}

// lands checks that the order cannot be captured under the id, neither by Charge nor by
// Reserve with Capture.
func (t *test) lands(id string, o ledger.Order) {
	t.Helper()
	_, _, err := t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
	t.want(err, ledger.ErrSettled)
	if _, err = t.Store.Reserve(t.ctx, id, o, ledger.Terms{}); err == nil {
		_, _, err = t.Store.Capture(t.ctx, id, nil)
	}
	t.want(err, ledger.ErrSettled)
}

func voidIsFinal(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id, o := newID("chg_"), settled(payer, payee, "key_a")
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	t.holds(payer, 10*price, price)
	t.ok(t.Store.Void(t.ctx, id))
	t.holds(payer, 10*price, 0)
	t.ok(t.Store.Void(t.ctx, id))
	t.lands(id, o)
	for range 2 {
		t.Store = t.Crash()
		t.lands(id, o)
		t.Advance(ledger.SettleTime/2 - 2*ledger.ReservationLife)
		t.lands(id, o)
	}
	t.balanced(1)
	t.holds(payer, 10*price, 0)
}

func voidUnknown(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id, o := newID("chg_"), settled(payer, payee, "key_a")
	t.want(t.Store.Void(t.ctx, id), ledger.ErrNotFound)
	t.lands(id, o)
	t.Store = t.Crash()
	t.lands(id, o)
	t.Advance(2 * ledger.ReservationLife)
	t.lands(id, o)
	t.holds(payer, 10*price, 0)
	t.balanced(1)
}

func voidCaptured(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id, o := newID("chg_"), settled(payer, payee, "key_a")
	_, _, err := t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
	t.ok(err)
	for range 2 {
		t.want(t.Store.Void(t.ctx, id), ledger.ErrSettled)
		_, _, err = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
		t.ok(err)
		t.Store = t.Crash()
	}
	t.holds(payer, 9*price, 0)
	t.balanced(2)
}

func voidRaces(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	paid := ledger.Amount(0)
	for i := range 40 {
		id, o := newID("chg_"), settled(payer, payee, "key_a")
		if i%2 == 0 {
			_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
			t.ok(err)
		}
		errs := make([]error, 4)
		together(len(errs), func(j int) {
			if j%2 == 0 {
				_, _, errs[j] = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
				return
			}
			errs[j] = t.Store.Void(t.ctx, id)
		})
		_, err := t.Store.ChargeByID(t.ctx, id)
		captured, given := err == nil, 0
		for j, err := range errs {
			switch {
			case j%2 == 0 && !captured, j%2 == 1 && captured:
				t.want(err, ledger.ErrSettled)
			case j%2 == 0:
				t.ok(err)
			case err == nil, errors.Is(err, ledger.ErrNotFound):
				given++
			default: // the id was not captured in the end, but a capture was running when Void was called
				t.want(err, ledger.ErrSettled)
			}
		}
		if !captured && given == 0 {
			t.Fatalf("nobody won: %v", errs)
		}
		if captured {
			paid += price
		}
	}
	t.holds(payer, ledger.Unit-paid, 0)
	t.balanced(-1)
}

func voidEnds(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id, untried, o := newID("chg_"), newID("chg_"), settled(payer, payee, "key_a")
	for _, voided := range []string{id, untried} {
		t.want(t.Store.Void(t.ctx, voided), ledger.ErrNotFound)
	}
	t.Advance(ledger.SettleTime - time.Second)
	t.lands(id, o)
	t.Advance(time.Second + 2*ledger.ReservationLife)
	other := newID("chg_")
	t.want(t.Store.Void(t.ctx, other), ledger.ErrNotFound)
	t.lands(other, o)
	_, _, err := t.Store.Charge(t.ctx, untried, o, ledger.Terms{}, nil) // a store may remember the failed charges under id for longer, so try the other voided id
	t.ok(err)
	t.holds(payer, 9*price, 0)
	t.balanced(2)
}
