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
// that it does not list, such as the refunds that an account paid.
const maxSteps = ledger.MaxScan / ledger.MaxPage

// selectChain follows the chain of what an account paid, from a transaction on,
// and selectEarned that of what it earned.
var (
	selectChain  = selectLinked("prev_debtor")
	selectEarned = selectLinked("prev_creditor")
)

// selectLinked follows a chain of transactions by the column that has the one
// before.
func selectLinked(before string) string {
	return `WITH RECURSIVE chain (at_seq, next) AS (
		SELECT seq, ` + before + ` FROM txn WHERE seq = ?1
		UNION ALL
		SELECT t.seq, t.` + before + ` FROM chain c JOIN txn t ON t.seq = c.next LIMIT ?2
	) ` + selectRow + `JOIN chain ON seq = at_seq ORDER BY seq DESC`
}

// Charges lists captured charges, newest first, with what was refunded of them.
// The text is the cursor of the next part, "" at the end; a part may have fewer
// rows than asked for and yet not be the last. Errors: ledger.ErrNotFound if an
// account does not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	after, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	l := listing{store: s, filter: &f, size: f.Size(), read: f.Size()}
	if f.Selective() {
		l.read = ledger.MaxPage
	}
	if l.payer, l.payerHead, err = l.account(f.Account, func(a *account) int64 { return a.debitHead }); err != nil {
		return nil, "", err
	}
	if l.earner, l.earnerHead, err = l.account(f.Provider, func(a *account) int64 { return a.creditHead }); err != nil {
		return nil, "", err
	}
	switch {
	case f.Account != "":
		err = l.chain(s.reads.chain, l.payerHead, after, func(r *row) (of, before int64) { return r.debtor - l.payer, r.prevDebtor })
	case f.Provider != "":
		err = l.chain(s.reads.earned, l.earnerHead, after, func(r *row) (of, before int64) { return r.creditor - l.earner, r.prevCreditor })
	default:
		err = l.all(after)
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
	store                 *Store
	filter                *ledger.ChargeFilter
	payer, earner         int64 // account.n that the filter names; 0 for none
	payerHead, earnerHead int64
	size                  int // how many to list at most
	read                  int // how many to read at a time
	charges               []ledger.Charge
	newest                int64 // of what was read: the greatest time
	next                  int64 // the cursor; 0 at the end
}

// account finds an account that the filter names, and where its chain begins.
func (l *listing) account(id string, head func(*account) int64) (n, begin int64, err error) {
	if id == "" {
		return 0, 0, nil
	}
	b := l.store.books
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.byID[id]
	if a == nil {
		return 0, 0, fmt.Errorf("account %q: %w", id, ledger.ErrNotFound)
	}
	return a.n, head(a), nil
}

// all lists what is below the transaction.
func (l *listing) all(below int64) error {
	l.next = below
	for range maxSteps {
		rows, err := l.store.reads.charges.QueryContext(background(), l.next, l.read+1)
		if err != nil {
			return failure(err)
		}
		last, more, err := l.collect(rows, l.read+1, nil)
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
	l.endIfOld()
	return nil
}

// chain lists what the account paid, or earned: from its head or, with a cursor,
// from a transaction on. link tells of a row by how much it is another account's,
// and which one is before it.
func (l *listing) chain(read *sql.Stmt, head, seq int64, link func(*row) (of, before int64)) error {
	if l.filter.After == "" {
		seq = head
	}
	l.next = seq
	for range maxSteps {
		if l.next <= l.store.writer.archived.Load().Last {
			l.next = 0 // what came before is in the archive
		}
		if l.next == 0 || len(l.charges) == l.size {
			return nil
		}
		rows, err := read.QueryContext(background(), l.next, l.read)
		if err != nil {
			return failure(err)
		}
		last, _, err := l.collect(rows, l.read, link)
		if err != nil {
			return err
		}
		if last.seq == 0 {
			return fmt.Errorf("%w: cursor %d is none that this listing gave", ledger.ErrInvalid, seq)
		}
		_, l.next = link(&last)
	}
	l.endIfOld()
	return nil
}

// endIfOld ends a listing by time where all of a part is older by far.
func (l *listing) endIfOld() {
	if to := l.filter.ReadTo(); !to.IsZero() && l.newest < micros(to) {
		l.next = 0
	}
}

// collect adds the charges among the rows until the part is full. It returns
// the last row that it took, and whether there may be more after it.
func (l *listing) collect(rows *sql.Rows, limit int, link func(*row) (of, before int64)) (last row, more bool, err error) {
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		if len(l.charges) == l.size {
			return last, true, nil
		}
		if err := last.scan(rows); err != nil {
			return row{}, false, failure(err)
		}
		if link != nil {
			if of, _ := link(&last); of != 0 {
				return row{}, false, fmt.Errorf("%w: cursor %d is none that this listing gave", ledger.ErrInvalid, last.seq)
			}
		}
		l.newest = max(l.newest, last.at)
		if !l.admits(&last) {
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

// admits reports whether a row is a charge that the filter chooses.
func (l *listing) admits(r *row) bool {
	f := l.filter
	return r.kind == rowCharge && (l.payer == 0 || r.debtor == l.payer) && (l.earner == 0 || r.creditor == l.earner) &&
		(f.Key == "" || r.key == f.Key) && (f.Server == "" || r.server == f.Server) && (f.Tool == "" || r.tool == f.Tool) &&
		(f.Since.IsZero() || r.at >= micros(f.Since)) && (f.Until.IsZero() || r.at < micros(f.Until))
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
		err = s.notInJournal(u)
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
