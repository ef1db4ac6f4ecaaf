package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const selectCharge = `SELECT t.seq, t.id, d.id, c.id, t.key, t.lineage, t.server, t.tool, t.amount + coalesce(t.waived, 0), coalesce(t.fee, 0),
	coalesce(f.id, ''), t.sandbox, t.at, t.waived IS NOT NULL, coalesce(t.settler, ''),
	(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = t.seq AND r.kind = 3)::bigint
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN account f ON f.n = t.fee_to `

// chargeRow is a charge with its number.
type chargeRow struct {
	charge ledger.Charge
	seq    int64
}

func scanCharge(row pgx.CollectableRow) (r chargeRow, err error) {
	c := &r.charge
	var id pgtype.UUID
	var at time.Time
	err = row.Scan(&r.seq, &id, &c.Account, &c.Provider, &c.Key, &c.Lineage, &c.Server, &c.Tool, (*int64)(&c.Amount), (*int64)(&c.Fee),
		&c.FeeTo, &c.Sandbox, &at, &c.Waived, &c.Settler, (*int64)(&c.Refunded))
	for _, text := range []*string{&c.Account, &c.Provider, &c.Key, &c.Lineage, &c.Server, &c.Tool, &c.FeeTo, &c.Settler} {
		*text = unpack(*text)
	}
	c.ID, c.State, c.At = chargePrefix+uuid.UUID(id.Bytes).String(), ledger.Captured, micro(at)
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

// Charges lists captured charges, newest first, with what was refunded of them.
// The text is the cursor of the next part, "" at the end. Errors:
// ledger.ErrNotFound if the account does not exist.
func (s *Store) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	before, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	where, args := `WHERE t.kind = 1 AND t.seq < $1 ORDER BY t.seq DESC LIMIT $2`, []any{before, f.Size() + 1}
	if f.Account != "" {
		var n int64
		err := s.row(ctx, `SELECT n FROM account WHERE id = $1`, []any{pack(f.Account)}, &n)
		if err = found(ctx, err); errors.Is(err, ledger.ErrNotFound) {
			return nil, "", fmt.Errorf("account %q: %w", f.Account, err)
		}
		if err != nil {
			return nil, "", err
		}
		where, args = `WHERE t.kind = 1 AND t.debtor = $3 AND t.seq < $1 ORDER BY t.seq DESC LIMIT $2`, append(args, n)
	}
	rows, err := s.charges(ctx, where, args...)
	if err != nil {
		return nil, "", err
	}
	rows, next := part(rows, f.Page, func(r *chargeRow) int64 { return r.seq })
	var list []ledger.Charge
	for _, r := range rows {
		list = append(list, r.charge)
	}
	return list, next, nil
}

// ChargeByID returns the captured charge of that id, with what was refunded of
// it, or ledger.ErrNotFound.
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

const selectJournal = `SELECT t.seq, t.id, t.kind, d.id, c.id, t.amount, t.sandbox, t.at, coalesce(t.reason, ''), coalesce(p.id, k.id),
	coalesce(t.key, ''), coalesce(t.server, ''), coalesce(t.tool, '')
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor LEFT JOIN txn p ON p.seq = t.ref LEFT JOIN carried k ON k.seq = t.ref
	WHERE t.seq > $1 ORDER BY t.seq LIMIT $2`

// kinds are the kinds of transactions, by their numbers.
var kinds = [...]ledger.Kind{1: ledger.KindCharge, 2: ledger.KindCredit, 3: ledger.KindRefund, 4: ledger.KindAdjustment, 5: ledger.KindFee}

// journalRow is a transaction with its number.
type journalRow struct {
	ledger.Transaction
	seq int64
}

func scanTransaction(row pgx.CollectableRow) (r journalRow, err error) {
	t := &r.Transaction
	var id, charge pgtype.UUID
	var kind int
	var at time.Time
	err = row.Scan(&r.seq, &id, &kind, &t.Debtor, &t.Creditor, (*int64)(&t.Amount), &t.Sandbox, &at, &t.Reason, &charge, &t.Key, &t.Server, &t.Tool)
	if err != nil {
		return r, err
	}
	for _, text := range []*string{&t.Debtor, &t.Creditor, &t.Reason, &t.Key, &t.Server, &t.Tool} {
		*text = unpack(*text)
	}
	prefix := otherPrefix
	if t.Kind = kinds[kind]; t.Kind == ledger.KindCharge {
		prefix = chargePrefix
	}
	t.ID, t.At = prefix+uuid.UUID(id.Bytes).String(), micro(at)
	if charge.Valid {
		t.Charge = chargePrefix + uuid.UUID(charge.Bytes).String()
	}
	return r, nil
}

// Journal lists all transactions, oldest first. The text is the cursor of the
// next part, "" at the end. Who reads on after it misses nothing that was
// committed later.
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
	// Numbers are given before the commit, so that one may come in between.
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

// JournalLength returns how many transactions the journal has.
func (s *Store) JournalLength(ctx context.Context) (n int64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.row(ctx, `SELECT count(*) FROM txn`, nil, &n)
	return n, failure(ctx, err)
}
