package sqlitestore

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// errDuplicate means that the journal already has a transaction with the same id.
var errDuplicate = errors.New("id is in the journal")

// storeError is a failure of the database. A request that is refused gets another
// error.
type storeError struct {
	cause error
	lost  bool // whether the connection is unusable
}

func (e *storeError) Error() string   { return "ledger unavailable: " + e.cause.Error() }
func (e *storeError) Unwrap() []error { return []error{ledger.ErrUnavailable, e.cause} }

// failure wraps an error of the database.
func failure(err error) error {
	if err == nil {
		return nil
	}
	return &storeError{cause: err, lost: isDisk(err)}
}

// tx is the open transaction of the writer.
type tx struct {
	w             *writer
	first         int64      // the seq of the first row that this transaction may write
	after         []func()   // functions to run after the commit, with the mutex of books locked
	flushing      []snapshot // the snapshots that this transaction writes: the first ones in writer.dirty
	spends        []spend    // the charges that this transaction writes, for the spend counters
	responseBytes int64      // change in the size of the stored responses
	settlers      settlers   // the lineages to which this transaction gives a number
	audits        []ledger.Audit
}

func (t *tx) exec(query string, args ...any) (int64, error) {
	res, err := t.w.conn.ExecContext(background(), query, args...)
	if err != nil {
		return 0, failure(err)
	}
	n, err := res.RowsAffected()
	return n, failure(err)
}

// queryRow queries one row. Scan returns ledger.ErrNotFound in place of
// sql.ErrNoRows.
func (t *tx) queryRow(query string, args ...any) scanner {
	return scanRow{t.w.conn.QueryRowContext(background(), query, args...)}
}

type scanRow struct{ row *sql.Row }

func (r scanRow) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(err)
}

// byID reads the transaction with the given id, or returns ledger.ErrNotFound.
func (t *tx) byID(id uuid) (row, error) {
	var r row
	err := r.scan(scanRow{t.w.stmts.byID.QueryRowContext(background(), id[:])})
	return r, err
}

// insert appends the row to the journal and updates the drafts of both accounts. It
// sets the row's seq and its links to the previous rows of both accounts. After
// errDuplicate or ledger.ErrOverflow, the transaction is as it was before, and can
// continue without this row.
func (t *tx) insert(r *row, debtor, creditor *account) error {
	w := t.w
	r.seq = w.next
	t.touch(debtor, r.seq)
	t.touch(creditor, r.seq)
	before, beforeCredit := debtor.draft, creditor.draft
	r.prevDebtor, r.prevCreditor = debtor.draft.debitHead, creditor.draft.creditHead
	err := moveDrafts(r, debtor, creditor)
	if err == nil {
		err = t.append(r)
	}
	if err != nil {
		creditor.draft = beforeCredit
		debtor.draft = before // if debtor and creditor are the same account, the two saved drafts are equal
		return err
	}
	w.next++
	return nil
}

// insertFee moves a part of a charge from its provider to the operator, or back. It
// takes the time, and the kind of credits (live or test), from the given row, which is
// the charge or the refund.
func (t *tx) insertFee(charge int64, amount ledger.Amount, from, to *account, of *row) error {
	r := row{
		id: newUUID(), kind: rowFee, debtor: from.n, creditor: to.n, amount: amount,
		test: of.test, at: of.at, ref: charge,
	}
	err := t.insert(&r, from, to)
	if errors.Is(err, ledger.ErrOverflow) || errors.Is(err, errDuplicate) {
		// The charge or refund is already written. Only the whole transaction can be
		// undone, so the error must not look as if only one row had failed.
		return failure(fmt.Errorf("fee of transaction %d: %v", charge, err))
	}
	return err
}

// canEarn returns ledger.ErrOverflow if the amount would make the account's balance
// too large.
func (t *tx) canEarn(a *account, amount ledger.Amount, test bool) error {
	t.touch(a, t.w.next)
	if _, err := a.draft.balances[balanceIndex(test)].Add(amount); err != nil {
		return fmt.Errorf("balance of account %s: %w", a.name, err)
	}
	return nil
}

// moveDrafts applies the row to the drafts of both accounts. After an error, the
// draft of the debtor may be changed.
func moveDrafts(r *row, debtor, creditor *account) error {
	if err := debtor.debit(r); err != nil {
		return err
	}
	return creditor.credit(r)
}

func (t *tx) append(r *row) error {
	res, err := t.w.stmts.insert.ExecContext(background(), r.args()...)
	if err != nil {
		return failure(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return failure(err)
	}
	if n == 0 {
		return errDuplicate
	}
	return nil
}
