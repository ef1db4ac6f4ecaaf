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

// maxSteps bounds how many batches of transactions are read for one page of a
// listing. Many batches are read if few of their transactions are listed, for
// example if most are refunds that an account paid.
const maxSteps = ledger.MaxScan / ledger.MaxPage

// selectChain follows the chain of an account's payments back from a transaction,
// and selectEarned follows the chain of the account's earnings.
var (
	selectChain  = selectLinked("prev_debtor")
	selectEarned = selectLinked("prev_creditor")
)

// selectLinked returns the query that follows a chain of transactions back. Its
// argument is the name of the column that refers to the previous transaction in the
// chain.
func selectLinked(before string) string {
	return `WITH RECURSIVE chain (at_seq, next) AS (
		SELECT seq, ` + before + ` FROM txn WHERE seq = ?1
		UNION ALL
		SELECT t.seq, t.` + before + ` FROM chain c JOIN txn t ON t.seq = c.next LIMIT ?2
	) ` + selectRow + `JOIN chain ON seq = at_seq ORDER BY seq DESC`
}

// Charges lists captured charges, newest first, with their refunded amounts. It
// also returns the cursor of the next page, "" at the end; a page can have fewer
// charges than the limit without being the last. Errors: ledger.ErrNotFound if an
// account of the filter does not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	if err := f.CheckSort(); err != nil {
		return nil, "", err
	}
	begin := int64(math.MaxInt64)
	if f.Sort == ledger.ByTime {
		begin = 0
	}
	after, err := f.Position(ctx, begin)
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
	return l.charges, f.CursorAt(l.next), nil
}

// listing is one page of a list of charges.
type listing struct {
	store                 *Store
	filter                *ledger.ChargeFilter
	payer, earner         int64 // the numbers (account.n) of the accounts that the filter names; 0 if the filter does not name the account
	payerHead, earnerHead int64
	size                  int // the maximum number of charges on the page
	read                  int // the number of transactions that one query reads
	charges               []ledger.Charge
	newest, oldest        int64 // the latest and the earliest time of the transactions read so far; 0 before the first
	next                  int64 // the cursor of the next page; 0 at the end
}

// account looks up an account of the filter. It returns the account's number n, and
// the head of the account's chain of payments or earnings.
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

// all lists the charges of all accounts. The list begins after the transaction with the
// given number, in the order of the listing: the numbers rise if the oldest charges
// come first, and otherwise fall.
func (l *listing) all(from int64) error {
	read := l.store.reads.charges
	if l.filter.Sort == ledger.ByTime {
		read = l.store.reads.journal
	}
	l.next = from
	for range maxSteps {
		rows, err := read.QueryContext(background(), l.next, l.read+1)
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
	l.endIfPast()
	return nil
}

// chain lists the payments or earnings of an account, newest first. If the filter has a
// cursor, the list begins at row number seq, which comes from the cursor. Otherwise it
// begins at row number head, the newest row of the chain. link(r) returns 0 and the
// seq of the previous row in the chain if row r is in the chain. Its first result is
// not 0 if row r is not in the chain.
func (l *listing) chain(read *sql.Stmt, head, seq int64, link func(*row) (of, before int64)) error {
	if l.filter.After == "" {
		seq = head
	}
	l.next = seq
	for range maxSteps {
		if l.next <= l.store.writer.archived.Load().Last {
			l.next = 0 // the rest of the chain is in the archive
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
			return fmt.Errorf("%w: cursor %d does not come from this listing", ledger.ErrInvalid, seq)
		}
		_, l.next = link(&last)
	}
	l.endIfPast()
	return nil
}

// endIfPast ends the listing if all rows read so far are beyond the times of the filter.
func (l *listing) endIfPast() {
	nearest := l.newest
	if l.filter.Sort == ledger.ByTime {
		nearest = l.oldest
	}
	if l.filter.Past(fromMicros(nearest)) {
		l.next = 0
	}
}

// collect adds charges from the rows until the page is full. It returns the last
// row that it used, and whether more rows may follow.
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
				return row{}, false, fmt.Errorf("%w: cursor %d does not come from this listing", ledger.ErrInvalid, last.seq)
			}
		}
		l.newest = max(l.newest, last.at)
		if l.oldest == 0 {
			l.oldest = last.at
		}
		l.oldest = min(l.oldest, last.at)
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

// admits reports whether a row is a charge that matches the filter.
func (l *listing) admits(r *row) bool {
	f := l.filter
	return r.kind == rowCharge && (l.payer == 0 || r.debtor == l.payer) && (l.earner == 0 || r.creditor == l.earner) &&
		(f.Key == "" || r.key == f.Key) && (f.Server == "" || r.server == f.Server) && (f.Tool == "" || r.tool == f.Tool) &&
		(f.Since.IsZero() || r.at >= micros(f.Since)) && (f.Until.IsZero() || r.at < micros(f.Until))
}

// ChargeByID returns the captured charge with the given id and its refunded amount, or
// ledger.ErrNotFound.
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

// selectOfCharge reads the refunds and the fees of a charge in the order of the journal.
// The second condition lets SQLite use the partial index txn_ref.
const selectOfCharge = selectRow + `WHERE ref = ? AND ref IS NOT NULL ORDER BY seq LIMIT ?`

// ChargeTransactions returns the transaction of a charge, followed by the transactions
// that refer to the charge: the operator's fee, the refunds, and the fee that each
// refund returned. The result has at most ledger.MaxPage transactions. Errors:
// ledger.ErrNotFound.
func (s *Store) ChargeTransactions(ctx context.Context, id string) ([]ledger.Transaction, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return nil, fmt.Errorf("charge %q: %w", id, ledger.ErrNotFound)
	}
	charge, err := s.captured(u)
	if err != nil {
		return nil, err
	}
	rows, err := s.readRows(selectOfCharge, charge.seq, ledger.MaxPage-1)
	if err != nil {
		return nil, err
	}
	list := make([]ledger.Transaction, 1+len(rows))
	for i, r := range append([]row{charge}, rows...) {
		if list[i], err = s.transaction(&r, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// selectJournal reads the journal after the given transaction.
const selectJournal = selectRow + `WHERE seq > ? ORDER BY seq LIMIT ?`

// Journal lists all transactions, oldest first. It also returns the cursor of the
// next page, "" at the end.
func (s *Store) Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error) {
	after, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.readRows(selectJournal, after, p.Size()+1)
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

// readRows reads rows of the journal into memory and then closes the read transaction,
// because SQLite's log grows for as long as a read transaction is open. The query has
// the columns of selectRow.
func (s *Store) readRows(query string, args ...any) ([]row, error) {
	rows, err := s.readers.QueryContext(background(), query, args...)
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

// chargeBehind returns the id of the charge that a refund or fee belongs to, and ""
// for other transactions.
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
