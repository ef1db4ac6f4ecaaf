package sqlitestore

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/clock"
)

// idleFlush bounds the number of snapshots that a commit without captures writes.
const idleFlush = 512

// flush writes up to limit snapshots of the committed state. If all is false, it writes
// only snapshots that have been stale for flushEvery.
func (t *tx) flush(limit int, all bool) error {
	w := t.w
	due := clock.Now().Add(-flushEvery)
	for _, s := range w.dirty[:min(limit, len(w.dirty))] {
		if !all && s.behind().dirtyAt.After(due) {
			break
		}
		if err := s.save(t); err != nil {
			return err
		}
		t.flushing = append(t.flushing, s)
	}
	if len(t.flushing) == 0 {
		return nil
	}
	from := w.committed + 1
	if n := len(t.flushing); n < len(w.dirty) {
		from = w.dirty[n].behind().dirtySeq
	}
	_, err := w.stmts.meta.ExecContext(background(), from)
	return failure(err)
}

// flushDue reports whether a snapshot has been stale for flushEvery.
func (w *writer) flushDue() bool {
	return len(w.dirty) > 0 && clock.Since(w.dirty[0].behind().dirtyAt) >= flushEvery
}

// loadAccounts reads the accounts that are not in memory yet.
func (t *tx) loadAccounts() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT n, id, name, created_at, credit_limit, cap_call, cap_day, cap_month,
		live, test, as_of, debit_head, credit_head FROM account WHERE n >= ? ORDER BY n`, t.w.books.nextNumber())
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a account
		var created int64
		if err := rows.Scan(&a.n, &a.id, &a.name, &created, (*int64)(&a.creditLimit),
			(*int64)(&a.caps.Call), (*int64)(&a.caps.Day), (*int64)(&a.caps.Month), (*int64)(&a.balances[0].Posted),
			(*int64)(&a.balances[1].Posted), &a.asOf, &a.debitHead, &a.creditHead); err != nil {
			return failure(err)
		}
		if !plausible(a.n, t.w.books.nextNumber()) {
			return fmt.Errorf("account %s has number %d, which no account can have: the store is damaged (restore a backup)", a.name, a.n)
		}
		a.created = fromMicros(created)
		t.w.books.mu.Lock()
		t.w.books.add(&a)
		t.w.books.mu.Unlock()
	}
	return failure(rows.Err())
}

// plausible reports whether n can be the number of an account. next is the lowest
// unused number. Accounts are numbered in order, and memory has a slice indexed by
// number. Without this check, a damaged number could make the slice too long for
// memory.
func plausible(n, next int64) bool { return n >= 0 && n-next < 1024 }

// load builds the state in memory from the file when the store is opened.
func (t *tx) load() error {
	for _, load := range []func() error{t.loadArchived, t.loadAccounts, t.loadSpend, t.loadIdempotencyKeys} {
		if err := load(); err != nil {
			return err
		}
	}
	var from, last int64
	err := t.queryRow(`SELECT replay_from, (SELECT coalesce(max(seq), 0) FROM txn) FROM meta`).Scan(&from, &last)
	if err != nil {
		return err
	}
	last = max(last, t.w.archived.Load().Last)
	t.w.committed = from - 1
	if from > last+1 {
		return fmt.Errorf("its snapshots are ahead of its journal, which ends at %d (restore a backup)", last)
	}
	if err := t.replay(from); err != nil {
		return err
	}
	t.w.books.day = t.w.books.lastDay()
	for _, a := range t.w.books.numbered {
		if a != nil && a.asOf > t.w.committed {
			return fmt.Errorf("the snapshot of account %s is ahead of the journal, which ends at %d (restore a backup)", a.name, last)
		}
	}
	return nil
}

// replay applies the journal to memory, beginning with the transaction that has the
// given number.
func (t *tx) replay(from int64) error {
	w := t.w
	t.first = from
	rows, err := w.conn.QueryContext(background(), selectRow+`WHERE seq >= ? ORDER BY seq`, from)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	last := w.committed
	var r row
	for rows.Next() {
		if err := r.scan(rows); err != nil {
			return failure(err)
		}
		if err := t.apply(&r); err != nil {
			w.forget()
			return err
		}
		last = r.seq
	}
	if err := rows.Err(); err != nil {
		w.forget()
		return failure(err)
	}
	w.committed, w.next = last, last+1
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	w.publish(t)
	return nil
}

// apply adds the row to the drafts of its two accounts. It skips an account if the
// account's snapshot already includes the row.
func (t *tx) apply(r *row) error {
	debtor, creditor := t.w.books.number(r.debtor), t.w.books.number(r.creditor)
	if debtor == nil || creditor == nil {
		return fmt.Errorf("transaction %d names an account that does not exist (restore a backup)", r.seq)
	}
	if r.kind == rowCharge {
		t.spends = append(t.spends, spendOf(r, nil))
	}
	if r.seq > debtor.asOf {
		t.touch(debtor, r.seq)
		if debtor.draft.debitHead != r.prevDebtor {
			return brokenChain(r)
		}
		if err := debtor.debit(r); err != nil {
			return err
		}
	}
	if r.seq > creditor.asOf {
		t.touch(creditor, r.seq)
		if creditor.draft.creditHead != r.prevCreditor {
			return brokenChain(r)
		}
		return creditor.credit(r)
	}
	return nil
}

func brokenChain(r *row) error {
	return fmt.Errorf("transaction %d does not follow from those before it (restore a backup)", r.seq)
}

// touch begins the draft of an account, unless the account has a row in the open
// transaction already.
func (t *tx) touch(a *account, seq int64) {
	if a.beginDraft(seq) {
		t.w.touched = append(t.w.touched, a)
	}
}
