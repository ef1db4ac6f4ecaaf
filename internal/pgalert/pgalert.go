// Package pgalert reads, for a store on PostgreSQL, the movements of money by which
// alerts are judged.
package pgalert

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// Options are the parts of the store that a Reader uses. All fields must be set.
type Options struct {
	DB      *pgquery.DB
	Shift   func() int64  // microseconds that the clock is ahead of the server's
	Settled *atomic.Int64 // the journal is complete up to this number
}

// Reader reads the journal and the spend counters. It is safe for concurrent use.
type Reader struct{ o Options }

// New returns a Reader.
func New(o Options) *Reader { return &Reader{o} }

const (
	selectMoved = `SELECT t.seq, t.kind = 1, t.waived IS NULL, CASE WHEN t.test OR d.id LIKE '@%' THEN '' ELSE d.id END, CASE WHEN t.test OR c.id LIKE '@%' THEN '' ELSE c.id END,
	coalesce(t.key, ''), coalesce(t.lineage, t.key, ''), coalesce(t.server, ''), coalesce(t.tool, '')
	FROM txn t JOIN account d ON d.n = t.debtor JOIN account c ON c.n = t.creditor WHERE t.seq > $1 AND t.seq <= $2 ORDER BY t.seq LIMIT $3`

	// selectSpent sums the spend counters of lineages for today and for this month. It
	// also selects the day. $1 is the shift of the clock.
	selectSpent = `SELECT u.i, ` +
		`least(coalesce(sum(m.spent) FILTER (WHERE m.day = d.today), 0), 9223372036854775807)::bigint, ` +
		`least(sum(m.spent), 9223372036854775807)::bigint, d.today
		FROM (SELECT x.day - DATE '1970-01-01' AS today, date_trunc('month', x.day)::date - DATE '1970-01-01' AS first
			FROM (SELECT (moved_clock($1) AT TIME ZONE 'UTC')::date AS day OFFSET 0) x OFFSET 0) d
		CROSS JOIN unnest($2::text[], $3::text[]) WITH ORDINALITY AS u (account, lineage, i)
		JOIN account a ON a.id = u.account
		JOIN spend_counter m ON m.account = a.n AND NOT m.test AND m.holder = 0 AND m.name = u.lineage AND m.day BETWEEN d.first AND d.today
		GROUP BY u.i, d.today`
)

// Moved summarizes the transactions after the given one, at most limit of them. It
// stops before the first number under which a transaction may still commit.
func (r *Reader) Moved(ctx context.Context, after int64, limit int) (m ledger.Moved, err error) {
	if err := ctx.Err(); err != nil {
		return m, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	c := ledger.NewMoves(after)
	var end int64
	// Most calls find no new transaction. Such calls do not need journal_end, so no
	// writer has to wait for them.
	if err := r.o.DB.Row(ctx, `SELECT coalesce(max(seq), 0) FROM txn`, nil, &end); err != nil {
		return m, pgquery.Failure(ctx, err)
	}
	if end > after && end > r.o.Settled.Load() {
		if err := r.o.DB.Row(ctx, `SELECT journal_end()`, nil, &end); err != nil {
			return m, pgquery.Failure(ctx, err)
		}
		r.o.Settled.Store(end)
	}
	if end <= after {
		return c.Moved(), nil
	}
	rows, err := r.o.DB.Query(ctx, selectMoved, after, end, limit)
	if err != nil {
		return m, pgquery.Failure(ctx, err)
	}
	var t ledger.Move
	count := 0
	_, err = pgx.ForEachRow(rows, []any{&t.Seq, &t.Charge, &t.Paid, &t.Debtor, &t.Creditor, &t.Key, &t.Lineage, &t.Server, &t.Tool}, func() error {
		for _, text := range [...]*string{&t.Debtor, &t.Creditor, &t.Key, &t.Lineage, &t.Server, &t.Tool} {
			*text = pgvalue.Unpack(*text)
		}
		count++
		c.Add(&t)
		return nil
	})
	m = c.Moved()
	m.More = count == limit
	return m, pgquery.Failure(ctx, err)
}

// LiveSpent returns the current spending of each of the given lineages, in the same
// order. It also returns the server's day, or 0 if no lineage has spent anything.
func (r *Reader) LiveSpent(ctx context.Context, lineages []ledger.Lineage) (all []ledger.Spent, day int32, err error) {
	all = make([]ledger.Spent, len(lineages))
	if err := ctx.Err(); err != nil || len(lineages) == 0 {
		return all, 0, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	accounts, names := make([]string, len(lineages)), make([]string, len(lineages))
	for i, l := range lineages {
		accounts[i], names[i] = l.Account, l.Lineage
	}
	rows, err := r.o.DB.Query(ctx, selectSpent, r.o.Shift(), pgvalue.PackAll(accounts), pgvalue.PackAll(names))
	if err != nil {
		return nil, 0, pgquery.Failure(ctx, err)
	}
	var i int64
	var spent ledger.Spent
	_, err = pgx.ForEachRow(rows, []any{&i, (*int64)(&spent.Day), (*int64)(&spent.Month), &day}, func() error {
		all[i-1] = spent
		return nil
	})
	return all, day, pgquery.Failure(ctx, err)
}
