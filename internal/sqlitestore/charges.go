package sqlitestore

import (
	"context"
	"database/sql"
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
	after, err := cursor(ctx, f.After, math.MaxInt64)
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
