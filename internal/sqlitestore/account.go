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

	// The mutex of books guards these fields. They show the account as of the last
	// commit. Only Reserved in each balance is newer: it counts the credits that holds
	// reserve at this moment.
	creditLimit     ledger.Amount
	caps            ledger.Caps
	idempotencyKeys int // the number of the account's idempotency keys
	balances        [2]ledger.Balance
	debitHead       int64
	creditHead      int64

	// Only the writer uses the fields below. asOf is the number of the last transaction
	// in the snapshot that the account was loaded from. draft is the state that the
	// account will have when the open transaction commits.
	asOf  int64
	draft draft
	dirt
}

// dirt records how stale a snapshot is. Only the writer uses it.
type dirt struct {
	dirtySeq int64 // the first transaction missing from the snapshot; 0 if the snapshot is current
	dirtyAt  time.Time
}

func (d *dirt) behind() *dirt { return d }

// snapshot is an object in memory that the writer saves to the file now and then: an
// account or a spend counter. The copy in the file is the snapshot of the object, and
// may be stale.
type snapshot interface {
	behind() *dirt
	save(t *tx) error // writes a snapshot of the committed state
}

// save writes the account's snapshot. Only the writer changes the saved fields, so
// save reads them without the mutex.
func (a *account) save(t *tx) error {
	_, err := t.w.stmts.snapshot.ExecContext(background(), int64(a.balances[0].Posted), int64(a.balances[1].Posted),
		t.w.committed, a.debitHead, a.creditHead, a.n)
	return failure(err)
}

// draft is the state of an account after the rows that the open transaction has written
// so far.
type draft struct {
	touched    int64 // the seq of the account's first row in the open transaction; 0 without such a row
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

// system reports whether this is a system account, which belongs to the ledger and not
// to a customer. No call spends from a system account.
func (a *account) system() bool { return a.name[0] == '@' }

// limit returns how far below zero the balance may go.
func (a *account) limit(test bool) ledger.Amount {
	if test {
		return 0
	}
	return a.creditLimit
}

// hold reserves the amount, or returns a *ledger.InsufficientError.
func (a *account) hold(amount ledger.Amount, test bool) error {
	p := &a.balances[balanceIndex(test)]
	available, err := p.Posted.Sub(p.Reserved)
	if err == nil {
		// If the limit is so large that the sum overflows, every amount is available.
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

// beginDraft prepares the draft for row number seq, which belongs to the open
// transaction. It reports whether this row is the account's first row in the
// transaction.
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

// publish makes the draft the committed state. The mutex of books must be locked.
func (a *account) publish() {
	a.balances[0].Posted, a.balances[1].Posted = a.draft.balances[0], a.draft.balances[1]
	a.debitHead, a.creditHead = a.draft.debitHead, a.draft.creditHead
}

// debit subtracts the row's amount from the draft of a, the account that pays.
func (a *account) debit(r *row) error {
	b := &a.draft.balances[balanceIndex(r.test)]
	less, err := b.Sub(r.amount)
	if err != nil {
		return fmt.Errorf("balance of account %s: %w", a.name, err)
	}
	*b, a.draft.debitHead = less, r.seq
	return nil
}

// credit adds the row's amount to the draft of a, the account that is paid.
func (a *account) credit(r *row) error {
	b := &a.draft.balances[balanceIndex(r.test)]
	more, err := b.Add(r.amount)
	if err != nil {
		return fmt.Errorf("balance of account %s: %w", a.name, err)
	}
	*b, a.draft.creditHead = more, r.seq
	return nil
}
