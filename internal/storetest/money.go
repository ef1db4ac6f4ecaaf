package storetest

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runMoney(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"a call is reserved, captured and listed", moneyPath},
		named{"promise 4: a charge is captured once, however often it is retried", moneyOnce},
		named{"an id with other content is a conflict and changes nothing", moneyConflict},
		named{"promise 3: nothing is reserved beyond the balance and the credit limit", moneyLimit},
		named{"test credits are a separate balance without a credit limit", moneyTest},
		named{"a released call costs nothing and stays released", moneyRelease},
		named{"a reservation expires unless it is renewed", moneyExpiry},
		named{"an expired reservation is captured only if the balance allows it again", moneyLateCapture},
		named{"a conditional charge checks the balance", moneyCharge},
		named{"orders that name nobody or nothing are refused", moneyInvalid},
		named{"a top-up happens once, whole, and only to an account", moneyCredit},
		named{"an adjustment adds or takes credits, even below the limit", moneyAdjust},
		named{"the journal has every movement, in order", moneyJournal},
		named{"refunds never exceed the charge", moneyRefund},
		named{"amounts at the edge of the range do not overflow", moneyOverflow},
		named{"promise 1: a crash loses no captured charge and holds no credits", moneyCrash},
		named{"charges are listed newest first, in parts", moneyPages},
		named{"a cancelled caller is charged nothing", moneyCancelled},
	)
}

const price = ledger.Unit / 100

func moneyPath(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	reserved, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	t.same(reserved, ledger.Reservation{Balance: ledger.Balance{Posted: ledger.Unit, Reserved: price}})
	if n := t.Store.OpenReservations(); n != 1 {
		t.Fatalf("%d reservations are open, want 1", n)
	}
	charge, balance, err := t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	t.same(balance, ledger.Balance{Posted: ledger.Unit - price})
	charge = t.made(charge)
	if charge.At.IsZero() || charge.At.Location() != time.UTC {
		t.Fatalf("captured at %v, want a time in UTC", charge.At)
	}
	t.same(charge, ledger.Charge{ID: id, Order: o, State: ledger.Captured, At: charge.At})
	t.holds(payee, price, 0)
	for _, f := range []ledger.ChargeFilter{{}, {Account: payer}} {
		t.same(t.charges(f), []ledger.Charge{charge})
	}
	if list := t.charges(ledger.ChargeFilter{Account: payee}); len(list) != 0 {
		t.Fatalf("who earned a charge is listed as having paid it: %+v", list)
	}
	t.balanced(2)
}

func moneyOnce(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	for range 3 {
		_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
		t.ok(err)
	}
	t.holds(payer, ledger.Unit, price)
	first, _, err := t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	first = t.made(first)
	for i := range 3 {
		t.Advance(25 * time.Second)
		again, balance, err := t.Store.Capture(t.ctx, id, nil)
		t.ok(err)
		t.same(again, first)
		t.same(balance, ledger.Balance{Posted: ledger.Unit - price})
		again, _, err = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
		t.ok(err)
		t.same(again, first)
		if i == 1 {
			t.Store = t.Crash()
		}
	}
	t.want(t.Store.Release(t.ctx, id), ledger.ErrSettled)
	t.holds(payer, ledger.Unit-price, 0)
	t.balanced(2)
}

func moneyConflict(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	changes := map[string]func(*ledger.Order){
		"account":  func(o *ledger.Order) { o.Account = payee },
		"provider": func(o *ledger.Order) { o.Provider = payer },
		"key":      func(o *ledger.Order) { o.Key = "key_x" },
		"lineage":  func(o *ledger.Order) { o.Lineage = "" },
		"server":   func(o *ledger.Order) { o.Server = "" },
		"tool":     func(o *ledger.Order) { o.Tool = "other" },
		"amount":   func(o *ledger.Order) { o.Amount++ },
		"test":     func(o *ledger.Order) { o.Test = true },
	}
	t.credit(payer, ledger.Unit, true)
	t.credit(payee, ledger.Unit, false)
	check := func() {
		for _, change := range changes {
			other := o
			change(&other)
			if _, err := t.Store.Reserve(t.ctx, id, other, ledger.Terms{}); !errors.Is(err, ledger.ErrConflict) {
				t.Fatalf("reserving %+v under the id of %+v: %v", other, o, err)
			}
			if t.sameCall(&other, &o) {
				continue
			}
			if _, _, err := t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil); !errors.Is(err, ledger.ErrConflict) {
				t.Fatalf("charging %+v under the id of %+v: %v", other, o, err)
			}
		}
	}
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	check()
	t.holds(payer, ledger.Unit, price)
	first, _, err := t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	first = t.made(first)
	check()
	t.Store = t.Crash()
	for _, change := range changes {
		other := o
		if change(&other); t.sameCall(&other, &o) {
			continue
		}
		_, _, err := t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil)
		t.want(err, ledger.ErrConflict)
	}
	again, _, err := t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
	t.ok(err)
	t.same(again, first)
	t.holds(payer, ledger.Unit-price, 0)
	t.balanced(4)
}

func moneyLimit(t *test) {
	payee := t.account("payee", 0, 0)
	for name, limit := range map[string]ledger.Amount{"poor": 0, "trusted": 5 * price} {
		payer := t.account(name, 10*price, limit)
		all := 10*price + limit
		_, err := t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, all+1), ledger.Terms{})
		var short *ledger.InsufficientError
		if !errors.As(err, &short) || short.Needed != all+1 || short.Balance.Posted != 10*price {
			t.Fatalf("error is %v, want one that says what was needed and there", err)
		}
		id := newID("chg_")
		_, err = t.Store.Reserve(t.ctx, id, order(payer, payee, all), ledger.Terms{})
		t.ok(err)
		_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), ledger.Terms{})
		t.want(err, ledger.ErrInsufficient)
		_, _, err = t.Store.Capture(t.ctx, id, nil)
		t.ok(err)
		_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), ledger.Terms{})
		t.want(err, ledger.ErrInsufficient)
		t.holds(payer, -limit, 0)
	}
	t.balanced(4)
}

func moneyTest(t *test) {
	payer, payee := t.account("payer", 10*price, 100*price), t.account("payee", 0, 0)
	o := order(payer, payee, price)
	o.Test = true
	_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
	t.want(err, ledger.ErrInsufficient)
	t.credit(payer, price, true)
	charge, balance, err := t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil)
	t.ok(err)
	t.same(balance, ledger.Balance{})
	t.same(charge.Order, o)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
	t.want(err, ledger.ErrInsufficient)
	a, err := t.Store.Account(t.ctx, payee)
	t.ok(err)
	if a.Live.Posted != 0 || a.Test.Posted != price {
		t.Fatalf("the provider earned %s live and %s test credits", a.Live.Posted, a.Test.Posted)
	}
	t.holds(payer, 10*price, 0)
	t.balanced(3)
}

func moneyRelease(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	t.ok(t.Store.Release(t.ctx, id))
	t.ok(t.Store.Release(t.ctx, id))
	t.holds(payer, price, 0)
	_, _, err = t.Store.Capture(t.ctx, id, nil)
	t.want(err, ledger.ErrSettled)
	_, _, err = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
	t.want(err, ledger.ErrSettled)
	_, err = t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.want(err, ledger.ErrSettled)
	t.want(t.Store.Renew(t.ctx, id), ledger.ErrSettled)
	t.want(t.Store.Release(t.ctx, newID("chg_")), ledger.ErrNotFound)
	t.balanced(1)
}

func moneyExpiry(t *test) {
	payer, payee := t.account("payer", 2*price, 0), t.account("payee", 0, 0)
	kept, left := newID("chg_"), newID("chg_")
	for _, id := range []string{kept, left} {
		_, err := t.Store.Reserve(t.ctx, id, order(payer, payee, price), ledger.Terms{})
		t.ok(err)
	}
	for range 4 {
		t.Advance(ledger.ReservationLife / 2)
		t.ok(t.Store.Renew(t.ctx, kept))
	}
	t.holds(payer, 2*price, price)
	if n := t.Store.OpenReservations(); n != 1 {
		t.Fatalf("%d reservations are open, want the renewed one", n)
	}
	t.want(t.Store.Renew(t.ctx, left), ledger.ErrSettled)
	t.want(t.Store.Renew(t.ctx, newID("chg_")), ledger.ErrNotFound)
	_, err := t.Store.Reserve(t.ctx, left, order(payer, payee, price), ledger.Terms{})
	t.want(err, ledger.ErrSettled)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, price), ledger.Terms{}) // the credits of the expired reservation can be spent again
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, kept, nil)
	t.ok(err)
	t.want(t.Store.Renew(t.ctx, kept), ledger.ErrSettled)
	t.ok(t.Store.Release(t.ctx, left))
	_, _, err = t.Store.Capture(t.ctx, left, nil)
	t.want(err, ledger.ErrSettled)
	t.balanced(2)
}

func moneyLateCapture(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	late, other := newID("chg_"), newID("chg_")
	_, err := t.Store.Reserve(t.ctx, late, order(payer, payee, price), ledger.Terms{})
	t.ok(err)
	t.Advance(2 * ledger.ReservationLife)
	_, err = t.Store.Reserve(t.ctx, other, order(payer, payee, price), ledger.Terms{})
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, late, nil)
	t.want(err, ledger.ErrInsufficient)
	t.holds(payer, price, price)
	t.ok(t.Store.Release(t.ctx, other))
	charge, _, err := t.Store.Capture(t.ctx, late, nil)
	t.ok(err)
	again, _, err := t.Store.Capture(t.ctx, late, nil)
	t.ok(err)
	t.same(again, t.made(charge))
	t.holds(payer, 0, 0)
	t.balanced(2)
}

func moneyCharge(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	_, _, err := t.Store.Charge(t.ctx, id, order(payer, payee, price+1), ledger.Terms{}, nil)
	t.want(err, ledger.ErrInsufficient)
	charge, balance, err := t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil) // the refused charge has not used up the id
	t.ok(err)
	t.same(balance, ledger.Balance{})
	t.same(charge.Order, o)
	again, _, err := t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
	t.ok(err)
	t.same(again, t.made(charge))
	_, _, err = t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil)
	t.want(err, ledger.ErrInsufficient)
	t.balanced(2)
}

func moneyInvalid(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	for _, o := range []ledger.Order{
		order(newID("acct_"), payee, 1), order(payer, newID("acct_"), 1), order(payer, "", 1),
		order(ledger.Funding, payee, 1), order(payer, ledger.Funding, 1), order("payer", payee, 1),
	} {
		_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
		t.want(err, ledger.ErrNotFound)
		_, _, err = t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil)
		t.want(err, ledger.ErrNotFound)
	}
	for _, amount := range []ledger.Amount{0, -1, math.MinInt64} {
		_, err := t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, amount), ledger.Terms{})
		t.refused(err, "an order of "+amount.String())
		_, _, err = t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, amount), ledger.Terms{}, nil)
		t.refused(err, "an order of "+amount.String())
	}
	for _, id := range []string{"", "chg_", "chg_1", newID("txn_"), newID("chg_") + "0", "CHG_" + newID(""), newID("chg_")[:39] + "G"} {
		_, err := t.Store.Reserve(t.ctx, id, order(payer, payee, 1), ledger.Terms{})
		t.refused(err, "the id "+id)
		_, _, err = t.Store.Capture(t.ctx, id, nil)
		t.want(err, ledger.ErrNotFound)
		t.want(t.Store.Renew(t.ctx, id), ledger.ErrNotFound)
		t.want(t.Store.Release(t.ctx, id), ledger.ErrNotFound)
	}
	_, _, err := t.Store.Capture(t.ctx, newID("chg_"), nil)
	t.want(err, ledger.ErrNotFound)
	_, _, err = t.Store.Charges(t.ctx, ledger.ChargeFilter{Account: newID("acct_")})
	t.want(err, ledger.ErrNotFound)
	t.holds(payer, ledger.Unit, 0)
	t.balanced(1)
}

func moneyCredit(t *test) {
	account := t.account("acme", 0, 0)
	top := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: account, Amount: price, Reason: "invoice 7"}
	first, balance, err := t.Store.PostTransaction(t.ctx, top, t.audit("credit", account))
	t.ok(err)
	want := top
	want.Debtor, want.At = ledger.Funding, first.At
	t.same(first, want)
	t.same(balance, ledger.Balance{Posted: price})
	rows := len(t.audits())
	again, balance, err := t.Store.PostTransaction(t.ctx, top, t.audit("credit", account))
	t.ok(err)
	t.same(again, first)
	t.same(balance, ledger.Balance{Posted: price})
	if n := len(t.audits()); n != rows {
		t.Fatalf("a retry wrote %d audit rows", n-rows)
	}
	for name, change := range map[string]func(*ledger.Transaction){
		"amount":  func(p *ledger.Transaction) { p.Amount++ },
		"test":    func(p *ledger.Transaction) { p.Test = true },
		"account": func(p *ledger.Transaction) { p.Creditor = newID("acct_") },
		"reason":  func(p *ledger.Transaction) { p.Reason = "other" },
		"kind":    func(p *ledger.Transaction) { p.Kind, p.Charge = ledger.KindRefund, newID("chg_") },
	} {
		other := top
		change(&other)
		_, _, err := t.Store.PostTransaction(t.ctx, other, t.audit("credit", account))
		if t.Derives && other.Kind == ledger.KindRefund && errors.Is(err, ledger.ErrNotFound) {
			continue // a platform first looks up the charge of a refund, because it must know the charge's settler
		}
		if !errors.Is(err, ledger.ErrConflict) {
			t.Fatalf("the same id with another %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*ledger.Transaction){
		"amount of zero":   func(p *ledger.Transaction) { p.Amount = 0 },
		"amount below":     func(p *ledger.Transaction) { p.Amount = -1 },
		"id of a charge":   func(p *ledger.Transaction) { p.ID = newID("chg_") },
		"debtor":           func(p *ledger.Transaction) { p.Debtor = account },
		"kind of a charge": func(p *ledger.Transaction) { p.Kind = ledger.KindCharge },
	} {
		other := top
		other.ID = newID("txn_")
		change(&other)
		_, _, err := t.Store.PostTransaction(t.ctx, other, t.audit("credit", account))
		t.refused(err, "a top-up with an "+name)
	}
	for _, nobody := range []string{newID("acct_"), ledger.Funding, ""} {
		other := top
		other.ID, other.Creditor = newID("txn_"), nobody
		_, _, err = t.Store.PostTransaction(t.ctx, other, t.audit("credit", nobody))
		t.want(err, ledger.ErrNotFound)
	}
	t.holds(account, price, 0)
	t.balanced(1)
}

func moneyRefund(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	id := newID("chg_")
	_, _, err := t.Store.Charge(t.ctx, id, order(payer, payee, 10*price), ledger.Terms{}, nil)
	t.ok(err)
	refund := func(amount ledger.Amount) (ledger.Transaction, ledger.Balance, error) {
		return t.Store.PostTransaction(t.ctx, ledger.Transaction{
			ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Amount: amount, Reason: "sorry",
		}, t.audit("refund", id))
	}
	_, _, err = refund(10*price + 1)
	t.want(err, ledger.ErrInsufficient)
	part, balance, err := refund(3 * price)
	t.ok(err)
	t.same(balance, ledger.Balance{Posted: 3 * price})
	if part.Debtor != payee || part.Creditor != payer || part.Charge != id || part.Amount != 3*price {
		t.Fatalf("the refund is %+v", part)
	}
	_, _, err = refund(7*price + 1)
	t.want(err, ledger.ErrInsufficient)

	// The provider spends its earnings. A charge can be refunded nevertheless.
	_, _, err = t.Store.Charge(t.ctx, newID("chg_"), order(payee, payer, 5*price), ledger.Terms{}, nil)
	t.ok(err)
	rest := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Reason: "all"}
	first, _, err := t.Store.PostTransaction(t.ctx, rest, t.audit("refund", id))
	t.ok(err)
	if first.Amount != 7*price {
		t.Fatalf("all that is left is %s, want %s", first.Amount, 7*price)
	}
	t.holds(payee, -5*price, 0)
	_, _, err = refund(0)
	t.want(err, ledger.ErrSettled)
	again, _, err := t.Store.PostTransaction(t.ctx, rest, t.audit("refund", id))
	t.ok(err)
	t.same(again, first)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payee, payer, 1), ledger.Terms{})
	t.want(err, ledger.ErrInsufficient)
	c, _, err := t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	if c.Refunded != 10*price {
		t.Fatalf("the charge shows %s refunded, want all", c.Refunded)
	}
	for _, unknown := range []string{newID("chg_"), "chg_", "", first.ID} {
		_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: unknown}, t.audit("refund", unknown))
		t.want(err, ledger.ErrNotFound)
	}
	t.balanced(5)
}

func moneyOverflow(t *test) {
	const most = ledger.Amount(math.MaxInt64)
	payer, payee := t.account("payer", most, most), t.account("payee", 0, 0)
	_, _, err := t.Store.PostTransaction(t.ctx, ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: payer, Amount: 1, Reason: "one too many",
	}, t.audit("credit", payer))
	t.want(err, ledger.ErrOverflow)
	t.holds(payer, most, 0)

	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, most), ledger.Terms{})
	t.ok(err)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, most), ledger.Terms{})
	t.want(err, ledger.ErrInsufficient) // the sum of the two reservations would overflow
	t.Advance(2 * ledger.ReservationLife)
	_, _, err = t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, most), ledger.Terms{}, nil)
	t.ok(err)
	_, _, err = t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, 1), ledger.Terms{}, nil)
	t.want(err, ledger.ErrOverflow) // the provider already has the highest possible balance
	t.holds(payer, 0, 0)
	t.holds(payee, most, 0)
	t.balanced(2)
}

func moneyCrash(t *test) {
	payer, payee := t.account("payer", 20*price, 0), t.account("payee", 0, 0)
	var want []ledger.Charge
	for range 5 {
		c, _, err := t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, price), ledger.Terms{}, nil)
		t.ok(err)
		want = append([]ledger.Charge{t.made(c)}, want...)
	}
	held := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, held, order(payer, payee, price), ledger.Terms{})
	t.ok(err)
	for range 2 {
		t.Store = t.Crash()
		if t.Forgets {
			t.holds(payer, 15*price, 0)
			_, _, err = t.Store.Capture(t.ctx, held, nil)
			t.want(err, ledger.ErrNotFound)
		}
		t.same(t.charges(ledger.ChargeFilter{Account: payer}), want)
		t.balanced(6)
	}
	// A reservation that the crash forgot is charged once, under the same id.
	first, _, err := t.Store.Charge(t.ctx, held, order(payer, payee, price), ledger.Terms{}, nil)
	t.ok(err)
	again, _, err := t.Store.Capture(t.ctx, held, nil)
	t.ok(err)
	t.same(again, t.made(first))
	t.holds(payer, 14*price, 0)
	t.balanced(7)
}

func moneyPages(t *test) {
	a, b := t.account("a", ledger.Unit, 0), t.account("b", ledger.Unit, 0)
	var all, ofA []ledger.Charge
	for i := range 9 {
		payer, payee := a, b
		if i%3 == 0 {
			payer, payee = b, a
		}
		if i == 6 {
			payee = payer // in this round the account earns its own payment
		}
		c, _, err := t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, price), ledger.Terms{}, nil)
		t.ok(err)
		c = t.made(c)
		if i%4 == 0 {
			_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID, Amount: 1}, t.audit("refund", c.ID))
			t.ok(err)
			c.Refunded = 1
		}
		all = append([]ledger.Charge{c}, all...)
		if payer == a {
			ofA = append([]ledger.Charge{c}, ofA...)
		}
	}
	for _, size := range []int{1, 2, 5, 0} {
		t.same(t.charges(ledger.ChargeFilter{Page: ledger.Page{Limit: size}}), all)
		t.same(t.charges(ledger.ChargeFilter{Account: a, Page: ledger.Page{Limit: size}}), ofA)
	}
	part, next, err := t.Store.Charges(t.ctx, ledger.ChargeFilter{Page: ledger.Page{Limit: 4}})
	t.ok(err)
	if len(part) != 4 || next == "" {
		t.Fatalf("the first part has %d charges and cursor %q, want 4 and one", len(part), next)
	}
	_, _, err = t.Store.Charges(t.ctx, ledger.ChargeFilter{Page: ledger.Page{After: "abc"}})
	t.refused(err, "a cursor that is none")
	t.balanced(2 + 9 + 3)
}

func moneyAdjust(t *test) {
	account, payee := t.account("payer", 2*price, 0), t.account("payee", 0, 0)
	take := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: account, Amount: 5 * price, Reason: "was credited twice"}
	for range 2 { // the second posting repeats the first
		posted, balance, err := t.Store.PostTransaction(t.ctx, take, t.audit("adjust", account))
		t.ok(err)
		t.same(balance, ledger.Balance{Posted: -3 * price})
		if posted.Creditor != ledger.Funding || posted.Debtor != account {
			t.Fatalf("posted %+v", posted)
		}
	}
	_, err := t.Store.Reserve(t.ctx, newID("chg_"), order(account, payee, 1), ledger.Terms{})
	t.want(err, ledger.ErrInsufficient)
	other := take
	other.Debtor, other.Creditor = "", account
	_, _, err = t.Store.PostTransaction(t.ctx, other, t.audit("adjust", account))
	t.want(err, ledger.ErrConflict)
	other.ID = newID("txn_")
	_, balance, err := t.Store.PostTransaction(t.ctx, other, t.audit("adjust", account))
	t.ok(err)
	t.same(balance, ledger.Balance{Posted: 2 * price})
	for name, bad := range map[string]ledger.Transaction{
		"nobody":      {ID: newID("txn_"), Kind: ledger.KindAdjustment, Amount: 1},
		"two":         {ID: newID("txn_"), Kind: ledger.KindAdjustment, Amount: 1, Debtor: account, Creditor: payee},
		"nothing":     {ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: account},
		"less":        {ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: account, Amount: -1},
		"a stranger":  {ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: newID("acct_"), Amount: 1},
		"the funding": {ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: ledger.Funding, Amount: 1},
	} {
		_, _, err := t.Store.PostTransaction(t.ctx, bad, t.audit("adjust", account))
		t.refused(err, "an adjustment of "+name)
	}
	t.balanced(3)
}

func moneyJournal(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	id := newID("chg_")
	c, _, err := t.Store.Charge(t.ctx, id, order(payer, payee, price), ledger.Terms{}, nil)
	t.ok(err)
	got, err := t.Store.ChargeByID(t.ctx, id)
	t.ok(err)
	t.same(got, t.made(c))
	refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Amount: 1, Reason: "sorry"}
	_, _, err = t.Store.PostTransaction(t.ctx, refund, t.audit("refund", id))
	t.ok(err)
	got, err = t.Store.ChargeByID(t.ctx, id)
	t.ok(err)
	if got.Refunded != 1 {
		t.Fatalf("refunded is %s", got.Refunded)
	}
	for _, unknown := range []string{newID("chg_"), "chg_x", refund.ID} {
		_, err = t.Store.ChargeByID(t.ctx, unknown)
		t.want(err, ledger.ErrNotFound)
	}
	var journal []ledger.Transaction
	for after := ""; ; {
		part, next, err := t.Store.Journal(t.ctx, ledger.Page{After: after, Limit: 2})
		t.ok(err)
		journal = append(journal, part...)
		if after = next; after == "" {
			break
		}
	}
	if len(journal) != 3 || journal[0].Kind != ledger.KindCredit || journal[1].ID != id || journal[1].Tool != "get_forecast" ||
		journal[2].Charge != id || journal[2].Debtor != payee {
		t.Fatalf("journal %+v", journal)
	}
}
