package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxSteps bounds how often one part of a listing reads on past transactions
// that are no charges, such as the refunds that an account paid.
const maxSteps = 20

// selectChain follows the chain of what an account paid, from a transaction on.
const selectChain = `WITH RECURSIVE chain (at_seq, next) AS (
		SELECT seq, prev_debtor FROM txn WHERE seq = ?1
		UNION ALL
		SELECT t.seq, t.prev_debtor FROM chain c JOIN txn t ON t.seq = c.next LIMIT ?2
	) ` + selectRow + `JOIN chain ON seq = at_seq ORDER BY seq DESC`

// Charges lists captured charges, newest first, with what was refunded of them.
// The text is the cursor of the next part, "" at the end; a part may have fewer
// rows than asked for and yet not be the last. Errors: ledger.ErrNotFound if the
// account does not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	after, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	l := listing{store: s, size: f.Size()}
	if f.Account == "" {
		err = l.all(after)
	} else {
		err = l.chain(f.Account, f.After == "", after)
	}
	if err != nil {
		return nil, "", err
	}
	if l.next == 0 {
		return l.charges, "", nil
	}
	return l.charges, strconv.FormatInt(l.next, 10), nil
}

// listing is one part of a list of charges.
type listing struct {
	store   *Store
	size    int
	charges []ledger.Charge
	next    int64 // the cursor; 0 at the end
}

// all lists what is below the transaction.
func (l *listing) all(below int64) error {
	l.next = below
	for range maxSteps {
		rows, err := l.store.reads.charges.QueryContext(background(), l.next, l.size+1)
		if err != nil {
			return failure(err)
		}
		last, more, err := l.collect(rows, l.size+1, 0)
		if err != nil {
			return err
		}
		if !more {
			l.next = 0
			return nil
		}
		if l.next = last.seq; len(l.charges) == l.size {
			return nil
		}
	}
	return nil
}

// chain lists what the account paid, from its newest or from a transaction on.
func (l *listing) chain(id string, fromHead bool, seq int64) error {
	b := l.store.books
	b.mu.Lock()
	a := b.byID[id]
	if a != nil && fromHead {
		seq = a.debitHead
	}
	b.mu.Unlock()
	if a == nil {
		return fmt.Errorf("account %q: %w", id, ledger.ErrNotFound)
	}
	l.next = seq
	for range maxSteps {
		if l.next <= l.store.writer.archived.Load().Last {
			l.next = 0 // what came before is in the archive
		}
		if l.next == 0 || len(l.charges) == l.size {
			return nil
		}
		rows, err := l.store.reads.chain.QueryContext(background(), l.next, l.size)
		if err != nil {
			return failure(err)
		}
		last, _, err := l.collect(rows, l.size, a.n)
		if err != nil {
			return err
		}
		if last.seq == 0 {
			return fmt.Errorf("%w: cursor %d is none that this listing gave", ledger.ErrInvalid, seq)
		}
		l.next = last.prevDebtor
	}
	return nil
}

// collect adds the charges among the rows until the part is full. It returns
// the last row that it took, and whether there may be more after it.
func (l *listing) collect(rows *sql.Rows, limit int, payer int64) (last row, more bool, err error) {
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		if len(l.charges) == l.size {
			return last, true, nil
		}
		if err := last.scan(rows); err != nil {
			return row{}, false, failure(err)
		}
		if payer != 0 && last.debtor != payer {
			return row{}, false, fmt.Errorf("%w: cursor %d is none that this listing gave", ledger.ErrInvalid, last.seq)
		}
		if last.kind != rowCharge {
			continue
		}
		c, err := l.store.charge(&last)
		if err != nil {
			return row{}, false, err
		}
		l.charges = append(l.charges, c)
	}
	return last, n == limit, failure(rows.Err())
}

// ChargeByID returns the captured charge of that id, with what was refunded of
// it, or ledger.ErrNotFound.
func (s *Store) ChargeByID(ctx context.Context, id string) (ledger.Charge, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Charge{}, err
	}
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return ledger.Charge{}, fmt.Errorf("charge %q: %w", id, ledger.ErrNotFound)
	}
	r, err := s.captured(u)
	if errors.Is(err, ledger.ErrNotFound) {
		err = s.absent(u)
	}
	if err != nil {
		return ledger.Charge{}, err
	}
	return s.charge(&r)
}

// selectJournal reads the journal on.
const selectJournal = selectRow + `WHERE seq > ? ORDER BY seq LIMIT ?`

// Journal lists all transactions, oldest first. The text is the cursor of the
// next part, "" at the end.
func (s *Store) Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error) {
	after, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.readRows(after, p.Size()+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Size() {
		rows = rows[:p.Size()]
		next = strconv.FormatInt(rows[len(rows)-1].seq, 10)
	}
	list := make([]ledger.Transaction, len(rows))
	for i := range rows {
		charge, err := s.chargeBehind(&rows[i])
		if err != nil {
			return nil, "", err
		}
		if list[i], err = s.transaction(&rows[i], charge); err != nil {
			return nil, "", err
		}
	}
	return list, next, nil
}

// readRows reads rows of the journal. It keeps the reader no longer than that:
// a long one makes the log grow.
func (s *Store) readRows(after int64, limit int) ([]row, error) {
	rows, err := s.readers.QueryContext(background(), selectJournal, after, limit)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	var list []row
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return nil, failure(err)
		}
		list = append(list, r)
	}
	return list, failure(rows.Err())
}

// chargeBehind returns the id of the charge that a refund or a fee belongs to,
// "" for other transactions.
func (s *Store) chargeBehind(r *row) (string, error) {
	if r.ref == 0 {
		return "", nil
	}
	var c row
	err := readError(c.scan(s.reads.bySeq.QueryRowContext(background(), r.ref)))
	if errors.Is(err, ledger.ErrNotFound) {
		var feeBack int64
		err = readError(c.scan(s.readers.QueryRowContext(background(), selectCarried+`WHERE seq = ?`, r.ref), &feeBack))
	}
	if err != nil {
		return "", err
	}
	return c.id.text(chargePrefix), nil
}
