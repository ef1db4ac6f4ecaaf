package storetest

import (
	"math"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runFees(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"the charge passes the operator's share on from the provider", feePath},
		named{"a refund returns the fee in proportion, and all of it in the end", feeRefund},
		named{"a fee that the operator cannot hold leaves nothing half done", feeOverflow},
		named{"the transactions of a charge are the charge, its fee, and its refunds with theirs", feeTransactions},
		named{"a refund is not refused because of the provider's balance", feeRefundEdge},
	)
}

func (t *test) journal() (all []ledger.Transaction) {
	t.Helper()
	for after := ""; ; {
		part, next, err := t.Store.Journal(t.ctx, ledger.Page{After: after})
		t.ok(err)
		all = append(all, part...)
		if after = next; after == "" {
			return all
		}
	}
}

func feePath(t *test) {
	payer, payee, operator := t.account("payer", 10*price, 0), t.account("payee", 0, 0), t.account("operator", 0, 0)
	o := order(payer, payee, 4*price)
	o.Fee, o.FeeTo = price, operator
	c, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	t.same(c.Order, o)
	t.holds(payer, 6*price, 0)
	t.holds(payee, 3*price, 0)
	t.holds(operator, price, 0)
	rows := t.journal()
	if fee := rows[len(rows)-1]; len(rows) != 3 || fee.Kind != ledger.KindFee || fee.Debtor != payee || fee.Creditor != operator ||
		fee.Amount != price || fee.Charge != c.ID || fee.Reason != "" {
		t.Fatalf("the journal is %+v", rows)
	}
	o.Fee = 4 * price // the fee is the whole price, and the payer earns it
	o.FeeTo = payer
	_, err = t.spend(o, ledger.Terms{})
	t.ok(err)
	t.holds(payer, 6*price, 0)
	for _, change := range []func(*ledger.Order){func(o *ledger.Order) { o.Fee-- }, func(o *ledger.Order) { o.Fee, o.FeeTo = 0, "" }, func(o *ledger.Order) { o.FeeTo = operator }} {
		other := o
		change(&other)
		id := newID("chg_")
		_, _, err = t.Store.Charge(t.ctx, id, o, ledger.Terms{}, nil)
		t.ok(err)
		if t.sameCall(&other, &o) {
			continue
		}
		_, _, err = t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil)
		t.want(err, ledger.ErrConflict)
		t.Store = t.Crash()
		_, _, err = t.Store.Charge(t.ctx, id, other, ledger.Terms{}, nil)
		t.want(err, ledger.ErrConflict)
	}
	t.balanced(1 + 2*5)
}

func feeRefund(t *test) {
	payer, payee, operator := t.account("payer", 100, 0), t.account("payee", 0, 0), t.account("operator", 0, 0)
	o := order(payer, payee, 100)
	o.Fee, o.FeeTo = 7, operator
	c, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	_, err = t.spend(order(operator, payer, 7), ledger.Terms{}) // the operator spends the fee, and must return it nevertheless
	t.ok(err)
	_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: payer, Amount: 7}, t.audit("adjust", payer))
	t.ok(err)
	refunded, rows := ledger.Amount(0), int64(5)
	for _, amount := range []ledger.Amount{1, 13, 1, 42, 43} {
		post := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID, Amount: amount}
		for range 2 { // the second posting repeats the first
			_, _, err := t.Store.PostTransaction(t.ctx, post, t.audit("refund", c.ID))
			t.ok(err)
		}
		before := 7 * refunded / 100
		refunded += amount
		returned := 7 * refunded / 100
		if rows++; returned > before {
			rows++
		}
		t.holds(payer, refunded, 0)
		t.holds(operator, -returned, 0)
		t.holds(payee, 93-refunded+returned, 0)
		t.balanced(rows)
		t.Store = t.Crash()
	}
	t.holds(payer, 100, 0)
	t.holds(payee, 0, 0)
}

// feeTransactions checks that a charge lists exactly the transactions of the journal that
// belong to it, in their order, and that other charges between them are left out.
func feeTransactions(t *test) {
	payer, payee, operator := t.account("payer", 100, 0), t.account("payee", 0, 0), t.account("operator", 0, 0)
	o := order(payer, payee, 20)
	o.Fee, o.FeeTo = 2, operator
	c, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	other, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	for _, id := range []string{c.ID, other.ID, c.ID} {
		_, _, err := t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Amount: 10, Reason: "late"}, t.audit("refund", id))
		t.ok(err)
	}
	for range 2 {
		var want []ledger.Transaction
		for _, row := range t.journal() {
			if row.ID == c.ID || row.Charge == c.ID {
				want = append(want, row)
			}
		}
		got, err := t.Store.ChargeTransactions(t.ctx, c.ID)
		t.ok(err)
		if len(want) != 6 {
			t.Fatalf("the journal has %d transactions of the charge: %+v", len(want), want)
		}
		t.same(got, want)
		t.Store = t.Crash()
	}
	for _, id := range []string{newID("chg_"), newID("txn_"), "", "chg_1"} {
		_, err := t.Store.ChargeTransactions(t.ctx, id)
		t.want(err, ledger.ErrNotFound)
	}
}

func feeOverflow(t *test) {
	const most = ledger.Amount(math.MaxInt64)
	payer, payee, operator := t.account("payer", 0, 100), t.account("payee", 0, 0), t.account("operator", most-1, 0)
	o, id := order(payer, payee, 100), newID("chg_")
	o.Fee, o.FeeTo = 2, operator
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, id, nil)
	t.want(err, ledger.ErrOverflow)
	t.holds(payer, 0, 100)
	t.balanced(1)
	_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: operator, Amount: 1}, t.audit("adjust", operator))
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	t.holds(operator, most, 0)
	t.holds(payer, -100, 0)
	t.balanced(4)
}

func feeRefundEdge(t *test) {
	const most = ledger.Amount(math.MaxInt64)
	payer, payee, operator := t.account("payer", 0, 100), t.account("payee", 0, 0), t.account("operator", 0, 0)
	o := order(payer, payee, 100)
	o.Fee, o.FeeTo = 10, operator
	c, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	t.credit(payee, most-99, false) // the returned fee fits into the payee's balance only after the refund has left it
	_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID}, t.audit("refund", c.ID))
	t.ok(err)
	t.holds(payee, most-99, 0)
	t.holds(payer, 0, 0)
	t.balanced(5)
}
