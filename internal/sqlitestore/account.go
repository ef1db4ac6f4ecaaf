package sqlitestore

import (
	"fmt"
	"math"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// account is an account in memory.
type account struct {
	n        int64
	id, name string
	created  time.Time

	// Guarded by the mutex of books: what is committed, and what is held.
	creditLimit     ledger.Amount
	caps            ledger.Caps
	idempotencyKeys int // calls that may be repeated
	balances        [2]ledger.Balance
	debitHead       int64
	creditHead      int64

	// The writer's alone. asOf is of the snapshot that it was loaded from; draft
	// is what will be when the open transaction commits.
	asOf  int64
	draft draft
	dirt
}

// dirt says how far behind a snapshot is. It belongs to the writer.
type dirt struct {
	dirtySeq int64 // the first transaction that the snapshot lacks, 0 for none
	dirtyAt  time.Time
}

func (d *dirt) behind() *dirt { return d }

// snapshot is what memory knows and the file has a snapshot of.
type snapshot interface {
	behind() *dirt
	save(t *tx) error // writes the snapshot of what is committed
}

// save writes the account's snapshot. Only the writer moves what is in it, so
// it may read it without the mutex.
func (a *account) save(t *tx) error {
	_, err := t.w.stmts.snapshot.ExecContext(background(), int64(a.balances[0].Posted), int64(a.balances[1].Posted),
		t.w.committed, a.debitHead, a.creditHead, a.n)
	return failure(err)
}

// draft is an account's state with the rows of an open transaction.
type draft struct {
	touched    int64 // the first row of the open transaction that concerns it, 0 for none
	balances   [2]ledger.Amount
	debitHead  int64
	creditHead int64
}

func balanceIndex(test bool) int {
	if test {
		return 1
	}
	return 0
}

// system reports an account of the ledger itself, which nobody spends from.
func (a *account) system() bool { return a.name[0] == '@' }

// limit is how far below zero the balance may go.
func (a *account) limit(test bool) ledger.Amount {
	if test {
		return 0
	}
	return a.creditLimit
}

// hold reserves the amount or says that the balance cannot pay it.
func (a *account) hold(amount ledger.Amount, test bool) error {
	p := &a.balances[balanceIndex(test)]
	available, err := p.Posted.Sub(p.Reserved)
	if err == nil {
		// A limit so large that the sum overflows admits every amount.
		if available, err = available.Add(a.limit(test)); err != nil {
			available, err = math.MaxInt64, nil
		}
	}
	reserved, overflow := p.Reserved.Add(amount)
	if err != nil || overflow != nil || amount > available {
		return &ledger.InsufficientError{Balance: *p, Needed: amount}
	}
	p.Reserved = reserved
	return nil
}

func (a *account) public() ledger.Account {
	return ledger.Account{
		ID: a.id, Name: a.name, CreatedAt: a.created, CreditLimit: a.creditLimit, Caps: a.caps,
		Live: a.balances[0], Test: a.balances[1],
	}
}

// begin prepares the draft for a row of the open transaction, and reports
// whether this is the first one.
func (a *account) beginDraft(seq int64) bool {
	if a.draft.touched != 0 {
		return false
	}
	a.draft = draft{
		touched:   seq,
		balances:  [2]ledger.Amount{a.balances[0].Posted, a.balances[1].Posted},
		debitHead: a.debitHead, creditHead: a.creditHead,
	}
	return true
}

// publish makes the draft what is committed. The caller holds the mutex.
func (a *account) publish() {
	a.balances[0].Posted, a.balances[1].Posted = a.draft.balances[0], a.draft.balances[1]
	a.debitHead, a.creditHead = a.draft.debitHead, a.draft.creditHead
}

// debit moves the draft of the account that pays.
func (a *account) debit(r *row) error {
	b := &a.draft.balances[balanceIndex(r.test)]
	less, err := b.Sub(r.amount)
	if err != nil {
		return fmt.Errorf("balance of account %s: %w", a.name, err)
	}
	*b, a.draft.debitHead = less, r.seq
	return nil
}

// credit moves the draft of the account that earns.
func (a *account) credit(r *row) error {
	b := &a.draft.balances[balanceIndex(r.test)]
	more, err := b.Add(r.amount)
	if err != nil {
		return fmt.Errorf("balance of account %s: %w", a.name, err)
	}
	*b, a.draft.creditHead = more, r.seq
	return nil
}
