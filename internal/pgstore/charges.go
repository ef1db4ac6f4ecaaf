package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

const selectCharge = `SELECT t.seq, t.id, d.id, c.id, t.key, t.lineage, t.server, t.tool, t.amount + coalesce(t.waived, 0), coalesce(t.fee, 0),
	coalesce(f.id, ''), t.test, t.at, t.waived IS NOT NULL, coalesce(t.settler, ''),
	(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = t.seq AND r.kind = 3)::bigint
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN account f ON f.n = t.fee_to `

// chargeRow is a charge, with its number seq in the journal.
type chargeRow struct {
	charge ledger.Charge
	seq    int64
}

func scanCharge(row pgx.CollectableRow) (r chargeRow, err error) {
	c := &r.charge
	var id pgtype.UUID
	var at time.Time
	err = row.Scan(&r.seq, &id, &c.Account, &c.Provider, &c.Key, &c.Lineage, &c.Server, &c.Tool, (*int64)(&c.Amount), (*int64)(&c.Fee),
		&c.FeeTo, &c.Test, &at, &c.Waived, &c.Settler, (*int64)(&c.Refunded))
	for _, text := range []*string{&c.Account, &c.Provider, &c.Key, &c.Lineage, &c.Server, &c.Tool, &c.FeeTo, &c.Settler} {
		*text = pgvalue.Unpack(*text)
	}
	c.ID, c.State, c.At = chargePrefix+uuid.UUID(id.Bytes).String(), ledger.Captured, pgvalue.Micro(at)
	return r, err
}

func (s *Store) charges(ctx context.Context, where string, args ...any) ([]chargeRow, error) {
	rows, err := s.db.Query(ctx, selectCharge+where, args...)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, scanCharge)
	return list, pgquery.Failure(ctx, err)
}

// Charges lists captured charges, newest first, with their refunds. It also returns the
// cursor of the next page, "" at the end. A page can have fewer charges than the limit
// without being the last. Errors: ledger.ErrNotFound if an account of the filter does
// not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	if err := f.CheckSort(); err != nil {
		return nil, "", err
	}
	way := ways[f.Sort == ledger.ByTime]
	after, err := f.Position(ctx, way.begin)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	q, err := s.selectCharges(ctx, &f, way, after)
	if err != nil {
		return nil, "", err
	}
	var scanned scan
	if f.Selective() {
		if scanned, err = s.scan(ctx, &f, way, q); err != nil {
			return nil, "", err
		}
		q.And(` AND t.seq `+way.until+` $%d`, scanned.end)
	}
	q.filter(&f)
	q.And(` ORDER BY `+way.order+` LIMIT $%d`, f.Size()+1)
	rows, err := s.charges(ctx, q.Where, q.Args...)
	if err != nil {
		return nil, "", err
	}
	list, next := page(rows, f.Page, func(r *chargeRow) (ledger.Charge, int64) { return r.charge, r.seq })
	if next == "" {
		next = scanned.next
	}
	return list, next, nil
}

// way is the direction in which a listing reads the journal: the cursor before the
// first row, the comparisons with a cursor and with the end of a scan, the order of
// rows, and the aggregates for the last number of a scan and the time nearest to the
// scan's beginning.
type way struct {
	begin                             int64
	after, until, order, end, nearest string
}

// ways has the directions, by whether the oldest charges come first.
var ways = map[bool]way{false: {math.MaxInt64, "<", ">=", "t.seq DESC", "min", "max"}, true: {0, ">", "<=", "t.seq", "max", "min"}}

// conditions are the SQL conditions of a list of charges, with their arguments.
type conditions struct {
	pgvalue.Conditions
	earner int64 // the number of the account in the filter's Provider; 0 without a Provider
}

// selectCharges returns those conditions of the filter that an index can answer.
func (s *Store) selectCharges(ctx context.Context, f *ledger.ChargeFilter, w way, after int64) (*conditions, error) {
	q := &conditions{Conditions: pgvalue.Conditions{Where: `WHERE t.kind = 1`}}
	q.And(` AND t.seq `+w.after+` $%d`, after)
	if f.Sort == ledger.ByTime { // ends where the journal is complete: a charge that commits late may have a lower number
		q.Where += ` AND t.seq <= (SELECT journal_end())`
	}
	if f.Account != "" {
		payer, err := s.accountNumber(ctx, f.Account)
		if err != nil {
			return nil, err
		}
		q.And(` AND t.debtor = $%d`, payer)
	}
	if f.Provider != "" {
		var err error
		if q.earner, err = s.accountNumber(ctx, f.Provider); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func (s *Store) accountNumber(ctx context.Context, id string) (n int64, err error) {
	err = pgquery.Found(ctx, s.db.Row(ctx, `SELECT n FROM account WHERE id = $1`, []any{pgvalue.Pack(id)}, &n))
	if errors.Is(err, ledger.ErrNotFound) {
		err = fmt.Errorf("account %q: %w", id, err)
	}
	return n, err
}

// filter adds the conditions that no index can answer.
func (c *conditions) filter(f *ledger.ChargeFilter) {
	if c.earner != 0 {
		c.And(` AND t.creditor = $%d`, c.earner)
	}
	c.Equal("t.key", f.Key)
	c.Equal("t.server", f.Server)
	c.Equal("t.tool", f.Tool)
	c.Within("t.at", f.Since, f.Until)
}

// scan is the range of the journal that is read for one page of a filtered list.
type scan struct {
	end  int64  // the number of the last transaction to read
	next string // the cursor of the next page, "" at the end
}

// scan finds how far in the journal one page may read. Without this bound, a
// statement might read all of a long journal for the few rows that pass a filter. scan
// runs before the charges are listed. A charge that commits in between has a higher
// number, so the page misses no charge.
func (s *Store) scan(ctx context.Context, f *ledger.ChargeFilter, w way, q *conditions) (r scan, err error) {
	var read int64
	var nearest *time.Time
	err = s.db.Row(ctx, `SELECT coalesce(`+w.end+`(x.seq), 0), count(*), `+w.nearest+`(x.at) FROM (
		SELECT t.seq, t.at FROM txn t `+q.Where+` ORDER BY `+w.order+` LIMIT `+strconv.Itoa(ledger.MaxScan)+`) x`, q.Args, &r.end, &read, &nearest)
	if err == nil && read == ledger.MaxScan && !f.Past(*nearest) {
		r.next = f.CursorAt(r.end)
	}
	return r, pgquery.Failure(ctx, err)
}

// ChargeByID returns the captured charge with the given id, with its refunds. Errors:
// ledger.ErrNotFound.
func (s *Store) ChargeByID(ctx context.Context, id string) (ledger.Charge, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	list, err := s.charges(ctx, `WHERE t.id = $1 AND t.kind = 1`, asUUID(u))
	if err != nil {
		return ledger.Charge{}, err
	}
	if len(list) == 0 {
		return ledger.Charge{}, s.absent(ctx, u, chargePrefix, fmt.Errorf("charge %q: %w", id, ledger.ErrNotFound))
	}
	return list[0].charge, nil
}

const (
	selectTransaction = `SELECT t.seq, t.id, t.kind, d.id, c.id, t.amount, t.test, t.at, coalesce(t.reason, ''), coalesce(p.id, k.id),
	coalesce(t.key, ''), coalesce(t.server, ''), coalesce(t.tool, '')
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN txn p ON p.seq = t.ref LEFT JOIN carried k ON k.seq = t.ref `
	selectJournal  = selectTransaction + `WHERE t.seq > $1 ORDER BY t.seq LIMIT $2`
	selectOfCharge = selectTransaction + `WHERE t.seq = $1 OR t.ref = $1 ORDER BY t.seq LIMIT $2`
)

// ChargeTransactions returns the transaction of a charge, followed by the transactions
// that refer to the charge: the operator's fee, the refunds, and the fee that each
// refund returned. The result has at most ledger.MaxPage transactions. Errors:
// ledger.ErrNotFound.
func (s *Store) ChargeTransactions(ctx context.Context, id string) ([]ledger.Transaction, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	charge, err := s.charges(ctx, `WHERE t.id = $1 AND t.kind = 1`, asUUID(u))
	if err != nil {
		return nil, err
	}
	if len(charge) == 0 {
		return nil, s.absent(ctx, u, chargePrefix, fmt.Errorf("charge %q: %w", id, ledger.ErrNotFound))
	}
	rows, err := s.transactions(ctx, selectOfCharge, charge[0].seq, ledger.MaxPage)
	list, _ := page(rows, ledger.Page{}, func(r *journalRow) (ledger.Transaction, int64) { return r.Transaction, r.seq })
	return list, err
}

// kinds maps the numbers of the column txn.kind to kinds of transactions.
var kinds = [...]ledger.Kind{1: ledger.KindCharge, 2: ledger.KindCredit, 3: ledger.KindRefund, 4: ledger.KindAdjustment, 5: ledger.KindFee}

// journalRow is a transaction, with its number seq in the journal.
type journalRow struct {
	ledger.Transaction
	seq int64
}

func scanTransaction(row pgx.CollectableRow) (r journalRow, err error) {
	t := &r.Transaction
	var id, charge pgtype.UUID
	var kind int
	var at time.Time
	err = row.Scan(&r.seq, &id, &kind, &t.Debtor, &t.Creditor, (*int64)(&t.Amount), &t.Test, &at, &t.Reason, &charge, &t.Key, &t.Server, &t.Tool)
	if err != nil {
		return r, err
	}
	for _, text := range []*string{&t.Debtor, &t.Creditor, &t.Reason, &t.Key, &t.Server, &t.Tool} {
		*text = pgvalue.Unpack(*text)
	}
	prefix := otherPrefix
	if t.Kind = kinds[kind]; t.Kind == ledger.KindCharge {
		prefix = chargePrefix
	}
	t.ID, t.At = prefix+uuid.UUID(id.Bytes).String(), pgvalue.Micro(at)
	if charge.Valid {
		t.Charge = chargePrefix + uuid.UUID(charge.Bytes).String()
	}
	return r, nil
}

// Journal lists all transactions, oldest first. It also returns the cursor of the next
// page, "" at the end. A listing that continues from a cursor misses no transaction,
// even if some transactions were still open when the page was read.
func (s *Store) Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error) {
	after, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.transactions(ctx, selectJournal, after, p.Size()+1)
	if err != nil {
		return nil, "", err
	}
	// Transactions get their numbers before they commit, so one with a lower number
	// than the last row may still be open. List only rows up to journal_end: up to
	// this number the journal is complete.
	if end := s.settled.Load(); len(rows) > 0 && rows[len(rows)-1].seq > end {
		if err := s.db.Row(ctx, `SELECT journal_end()`, nil, &end); err != nil {
			return nil, "", pgquery.Failure(ctx, err)
		}
		if rows, err = s.transactions(ctx, selectJournal, after, p.Size()+1); err != nil {
			return nil, "", err
		}
		s.settled.Store(end)
		for len(rows) > 0 && rows[len(rows)-1].seq > end {
			rows = rows[:len(rows)-1]
		}
	}
	list, next := page(rows, p, func(r *journalRow) (ledger.Transaction, int64) { return r.Transaction, r.seq })
	return list, next, nil
}

// transactions reads transactions by a query with the columns of selectTransaction.
func (s *Store) transactions(ctx context.Context, query string, args ...any) ([]journalRow, error) {
	rows, err := s.db.Query(ctx, query, args...)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, scanTransaction)
	return list, pgquery.Failure(ctx, err)
}

// JournalLength returns the number of transactions in the journal.
func (s *Store) JournalLength(ctx context.Context) (n int64, err error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	err = s.db.Row(ctx, `SELECT count(*) FROM txn`, nil, &n)
	return n, pgquery.Failure(ctx, err)
}
