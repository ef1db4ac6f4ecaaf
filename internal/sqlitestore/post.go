package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// PostTransaction writes a top-up (ledger.KindCredit), an adjustment
// (KindAdjustment) or a refund (KindRefund) together with its audit row. It returns
// the transaction as recorded, and the balance of its account. Repeating a call
// returns the first outcome.
//
// A top-up uses ID, Creditor, Amount, Test and Reason. An adjustment uses the same
// fields, or Debtor in place of Creditor to take credits away. A refund uses ID,
// Charge, Amount and Reason, where a zero amount means the rest of the charge. A
// refund also returns the operator's fee to the provider, in proportion. A refund
// may take the provider's balance below zero, and an adjustment may do the same to
// the account's balance.
//
// Errors: ledger.ErrNotFound (account or charge), ErrConflict (the ID was used with
// other content), ErrSettled (nothing is left to refund), ErrInsufficient (the
// rest of the charge is smaller than the amount), ErrOverflow.
func (s *Store) PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	id, err := parseID(otherPrefix, t.ID)
	if err == nil {
		err = t.Complete()
	}
	if err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	var posted ledger.Transaction
	var balance ledger.Balance
	err = s.do(ctx, func(x *tx) error {
		r, fresh, err := x.postTransaction(t, id, s.now())
		if err != nil {
			return err
		}
		about := s.books.number(r.creditor)
		if about.id == ledger.Funding {
			about = s.books.number(r.debtor)
		}
		if posted, err = s.transaction(&r, t.Charge); err != nil {
			return err
		}
		x.after = append(x.after, func() {
			s.books.expire(s.now()) // expired reservations must not count in Reserved
			balance = about.balances[balanceIndex(r.test)]
		})
		if !fresh {
			return nil
		}
		return x.audit(a, s.now())
	})
	if err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	return posted, balance, nil
}

// postTransaction writes the transaction, or returns the row of an earlier transaction
// with the same id. fresh is true if postTransaction wrote a row.
func (t *tx) postTransaction(p ledger.Transaction, id uuid, now time.Time) (r row, fresh bool, err error) {
	switch r, err = t.byID(id); {
	case err == nil:
		return r, false, t.samePosting(&r, &p)
	case !errors.Is(err, ledger.ErrNotFound):
		return row{}, false, err
	}
	if err := t.archivedID(id, otherPrefix, ledger.ErrConflict); err != nil {
		return row{}, false, err
	}
	if p.Kind != ledger.KindRefund {
		r, err = t.fund(&p, id, now)
		return r, true, err
	}
	c, err := t.refunded(p.Charge)
	if err != nil {
		return row{}, false, err
	}
	r, err = t.refund(&c, p, id, now)
	return r, true, err
}

// samePosting returns ErrConflict if the row does not record the transaction p.
func (t *tx) samePosting(r *row, p *ledger.Transaction) error {
	same := r.reason == p.Reason
	switch p.Kind {
	case ledger.KindCredit, ledger.KindAdjustment:
		debtor, creditor := t.w.books.number(r.debtor), t.w.books.number(r.creditor)
		same = same && kinds[r.kind] == p.Kind && debtor != nil && debtor.id == p.Debtor &&
			creditor != nil && creditor.id == p.Creditor && r.amount == p.Amount && r.test == p.Test
	default:
		c, err := t.refunded(p.Charge)
		if err != nil && (!errors.Is(err, ledger.ErrNotFound) || errors.Is(err, ledger.ErrArchived)) {
			return err
		}
		same = same && err == nil && r.kind == rowRefund && r.ref == c.seq && (p.Amount == 0 || p.Amount == r.amount)
	}
	if !same {
		return ledger.ErrConflict
	}
	return nil
}

// fund moves credits between the system account ledger.Funding and another account.
func (t *tx) fund(p *ledger.Transaction, id uuid, now time.Time) (row, error) {
	b := t.w.books
	var err error
	b.mu.Lock()
	funding := b.byID[ledger.Funding]
	debtor, creditor := funding, funding
	if p.Creditor == ledger.Funding {
		debtor, err = b.find(p.Debtor)
	} else {
		creditor, err = b.find(p.Creditor)
	}
	b.mu.Unlock()
	if err != nil {
		return row{}, err
	}
	kind := int64(rowCredit)
	if p.Kind == ledger.KindAdjustment {
		kind = rowAdjust
	}
	r := row{
		id: id, kind: kind, debtor: debtor.n, creditor: creditor.n, amount: p.Amount,
		test: p.Test, at: micros(now), reason: p.Reason,
	}
	return r, t.insert(&r, debtor, creditor)
}

// refunded reads the charge to refund.
func (t *tx) refunded(charge string) (row, error) {
	id, err := parseID(chargePrefix, charge)
	if err != nil {
		return row{}, fmt.Errorf("charge %q: %w", charge, ledger.ErrNotFound)
	}
	c, err := t.byID(id)
	if err == nil && c.kind != rowCharge {
		err = ledger.ErrNotFound
	} else if errors.Is(err, ledger.ErrNotFound) {
		err = errors.Join(t.archivedID(id, chargePrefix, err), err)
	}
	if err != nil {
		return row{}, fmt.Errorf("charge %q: %w", charge, err)
	}
	return c, nil
}

// refund refunds the charge in whole or in part.
func (t *tx) refund(c *row, p ledger.Transaction, id uuid, now time.Time) (row, error) {
	left := c.amount - c.refunded
	amount := p.Amount
	if amount == 0 {
		amount = left
	}
	switch {
	case left <= 0:
		return row{}, fmt.Errorf("all of the charge is refunded: %w", ledger.ErrSettled)
	case amount > left:
		return row{}, fmt.Errorf("refund of %s, but only %s of the charge is left: %w", amount, left, ledger.ErrInsufficient)
	}
	r := row{
		id: id, kind: rowRefund, debtor: c.creditor, creditor: c.debtor, amount: amount,
		test: c.test, at: micros(now), ref: c.seq, reason: p.Reason,
	}
	debtor, creditor := t.w.books.number(r.debtor), t.w.books.number(r.creditor)
	if debtor == nil || creditor == nil {
		return row{}, failure(fmt.Errorf("transaction %d names an account that does not exist", c.seq))
	}
	back := ledger.FeeReturned(c.fee, c.amount, c.refunded, amount)
	if back > 0 && debtor == creditor { // only a provider that pays its own charge can overflow here, because a refund takes more from any other provider than it returns
		if err := t.canEarn(debtor, back, c.test); err != nil {
			return row{}, err
		}
	}
	if err := t.insert(&r, debtor, creditor); err != nil {
		return row{}, err
	}
	if back > 0 {
		operator := t.w.books.number(c.feeTo)
		if operator == nil {
			return row{}, failure(fmt.Errorf("transaction %d names an account that does not exist", c.seq))
		}
		if err := t.insertFee(c.seq, back, operator, debtor, &r); err != nil {
			return row{}, err
		}
	}
	if amount < left {
		return r, nil
	}
	return r, t.deleteResponse(c.seq, 0)
}

// transaction converts a row to a transaction. For a refund or a fee, the last argument
// is the id of the charge to which the refund or fee belongs.
func (s *Store) transaction(r *row, charge string) (ledger.Transaction, error) {
	s.books.mu.Lock()
	debtor, creditor := s.books.number(r.debtor), s.books.number(r.creditor)
	s.books.mu.Unlock()
	if debtor == nil || creditor == nil {
		return ledger.Transaction{}, failure(fmt.Errorf("transaction %d names an account that does not exist", r.seq))
	}
	prefix := otherPrefix
	if r.kind == rowCharge {
		prefix = chargePrefix
	}
	if r.kind != rowRefund && r.kind != rowFee {
		charge = ""
	}
	return ledger.Transaction{
		ID: r.id.text(prefix), Kind: kinds[r.kind], Debtor: debtor.id, Creditor: creditor.id, Amount: r.amount,
		Test: r.test, At: fromMicros(r.at), Reason: r.reason, Charge: charge,
		Key: r.key, Server: r.server, Tool: r.tool,
	}, nil
}
