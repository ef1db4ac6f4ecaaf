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
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

const selectCharge = `SELECT t.seq, t.id, d.id, c.id, t.key, t.lineage, t.server, t.tool, t.amount + coalesce(t.waived, 0), coalesce(t.fee, 0),
	coalesce(f.id, ''), t.test, t.at, t.waived IS NOT NULL, coalesce(t.settler, ''),
	(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = t.seq AND r.kind = 3)::bigint
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN account f ON f.n = t.fee_to `

// chargeRow is a charge. The field seq is the number of the charge in the journal.
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
	rows, err := s.query(ctx, selectCharge+where, args...)
	if err != nil {
		return nil, failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, scanCharge)
	return list, failure(ctx, err)
}

// Charges lists captured charges, newest first, with their refunds. It also returns
// the cursor of the next page, "" at the end. Even a page that is not the last may be
// short. Errors: ledger.ErrNotFound if an account of the filter does not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	before, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	q, err := s.selectCharges(ctx, &f, before)
	if err != nil {
		return nil, "", err
	}
	var scanned scan
	if f.Selective() {
		if scanned, err = s.scan(ctx, &f, q); err != nil {
			return nil, "", err
		}
		q.and(` AND t.seq >= $%d`, scanned.from)
	}
	q.filter(&f)
	q.and(` ORDER BY t.seq DESC LIMIT $%d`, f.Size()+1)
	rows, err := s.charges(ctx, q.where, q.args...)
	if err != nil {
		return nil, "", err
	}
	rows, next := part(rows, f.Page, func(r *chargeRow) int64 { return r.seq })
	if next == "" {
		next = scanned.next
	}
	var list []ledger.Charge
	for _, r := range rows {
		list = append(list, r.charge)
	}
	return list, next, nil
}

// conditions are the SQL conditions of a list of charges, with their arguments.
type conditions struct {
	where  string
	args   []any
	earner int64 // account.n of the filter's Provider; 0 without a Provider
}

func (c *conditions) and(condition string, arg any) {
	c.args = append(c.args, arg)
	c.where += fmt.Sprintf(condition, len(c.args))
}

// selectCharges returns those conditions of the filter that an index can answer.
func (s *Store) selectCharges(ctx context.Context, f *ledger.ChargeFilter, before int64) (*conditions, error) {
	q := &conditions{where: `WHERE t.kind = 1`}
	q.and(` AND t.seq < $%d`, before)
	if f.Account != "" {
		payer, err := s.accountNumber(ctx, f.Account)
		if err != nil {
			return nil, err
		}
		q.and(` AND t.debtor = $%d`, payer)
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
	err = found(ctx, s.row(ctx, `SELECT n FROM account WHERE id = $1`, []any{pgvalue.Pack(id)}, &n))
	if errors.Is(err, ledger.ErrNotFound) {
		err = fmt.Errorf("account %q: %w", id, err)
	}
	return n, err
}

// filter adds the conditions that no index can answer.
func (c *conditions) filter(f *ledger.ChargeFilter) {
	if c.earner != 0 {
		c.and(` AND t.creditor = $%d`, c.earner)
	}
	for _, of := range [...]struct{ condition, text string }{
		{` AND t.key = $%d`, f.Key}, {` AND t.server = $%d`, f.Server}, {` AND t.tool = $%d`, f.Tool},
	} {
		if of.text != "" {
			c.and(of.condition, pgvalue.Pack(of.text))
		}
	}
	if !f.Since.IsZero() {
		c.and(` AND t.at >= $%d`, pgvalue.Micro(f.Since))
	}
	if !f.Until.IsZero() {
		c.and(` AND t.at < $%d`, pgvalue.Micro(f.Until))
	}
}

// scan is the range of the journal that one page of a filtered list reads.
type scan struct {
	from int64  // the lowest number to read
	next string // the cursor of the next page, "" at the end
}

// scan finds how far back a page reads. Without this bound, a statement might read
// all of a long journal for the few rows that pass a filter. scan runs before the
// charges are listed. A charge that commits in between has a higher number, so the
// page misses no charge.
func (s *Store) scan(ctx context.Context, f *ledger.ChargeFilter, q *conditions) (r scan, err error) {
	var read int64
	var newest *time.Time
	err = s.row(ctx, `SELECT coalesce(min(x.seq), 0), count(*), max(x.at) FROM (
		SELECT t.seq, t.at FROM txn t `+q.where+` ORDER BY t.seq DESC LIMIT `+strconv.Itoa(ledger.MaxScan)+`) x`, q.args, &r.from, &read, &newest)
	to := f.ReadTo()
	if err == nil && read == ledger.MaxScan && (to.IsZero() || !newest.Before(to)) {
		r.next = strconv.FormatInt(r.from, 10)
	}
	return r, failure(ctx, err)
}

// ChargeByID returns the captured charge with that id, with its refunds. Errors:
// ledger.ErrNotFound.
func (s *Store) ChargeByID(ctx context.Context, id string) (ledger.Charge, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, err
	}
	ctx, cancel := bounded(ctx)
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

const selectJournal = `SELECT t.seq, t.id, t.kind, d.id, c.id, t.amount, t.test, t.at, coalesce(t.reason, ''), coalesce(p.id, k.id),
	coalesce(t.key, ''), coalesce(t.server, ''), coalesce(t.tool, '')
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN txn p ON p.seq = t.ref LEFT JOIN carried k ON k.seq = t.ref
	WHERE t.seq > $1 ORDER BY t.seq LIMIT $2`

// kinds maps the numbers of the column txn.kind to kinds of transactions.
var kinds = [...]ledger.Kind{1: ledger.KindCharge, 2: ledger.KindCredit, 3: ledger.KindRefund, 4: ledger.KindAdjustment, 5: ledger.KindFee}

// journalRow is a transaction. The field seq is its number in the journal.
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

// Journal lists all transactions, oldest first. It also returns the cursor of the
// next page, "" at the end. A reader that continues from a cursor misses no
// transaction, even if some were still open when the page was read.
func (s *Store) Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error) {
	after, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.journal(ctx, after, p.Size()+1)
	if err != nil {
		return nil, "", err
	}
	// Transactions get their numbers before they commit, so one with a lower number
	// than the last row may still be open. List only rows up to journal_end: up to
	// this number the journal is complete.
	if end := s.settled.Load(); len(rows) > 0 && rows[len(rows)-1].seq > end {
		if err := s.row(ctx, `SELECT journal_end()`, nil, &end); err != nil {
			return nil, "", failure(ctx, err)
		}
		if rows, err = s.journal(ctx, after, p.Size()+1); err != nil {
			return nil, "", err
		}
		s.settled.Store(end)
		for len(rows) > 0 && rows[len(rows)-1].seq > end {
			rows = rows[:len(rows)-1]
		}
	}
	rows, next := part(rows, p, func(r *journalRow) int64 { return r.seq })
	list := make([]ledger.Transaction, len(rows))
	for i := range rows {
		list[i] = rows[i].Transaction
	}
	return list, next, nil
}

func (s *Store) journal(ctx context.Context, after int64, limit int) ([]journalRow, error) {
	rows, err := s.query(ctx, selectJournal, after, limit)
	if err != nil {
		return nil, failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, scanTransaction)
	return list, failure(ctx, err)
}

// JournalLength returns the number of transactions in the journal.
func (s *Store) JournalLength(ctx context.Context) (n int64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.row(ctx, `SELECT count(*) FROM txn`, nil, &n)
	return n, failure(ctx, err)
}
