// Package pgusage keeps a store's sums of usage in PostgreSQL. The package rollup
// decides which sums there are.
//
// One node at a time sums the journal up, and holds an advisory lock while it does so.
// The sums and the cursor, the position in the journal up to which they reach, change
// in one transaction. So no transaction of the journal is lost or counted twice if a
// node dies. The transaction is committed without waiting for the disk. If the server
// loses it in a crash, the journal is summed up again from the older cursor.
package pgusage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgschema"
	"github.com/fareboxhq/farebox/internal/pgvalue"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// Bounds of one step of SumUsage.
const (
	readMost = 5000 // the number of transactions that a step reads
	rowsMost = 5000 // the number of rows of the sums that a step changes
)

// Options connect the sums to a store.
type Options struct {
	// Begin opens a transaction.
	Begin func(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	// Failure returns the store's error for a failure of the database, and nil for nil.
	Failure func(ctx context.Context, err error) error
	// Shift returns how far SQL functions move the clock ahead, in microseconds.
	Shift func() int64
	// Timeout bounds each transaction.
	Timeout time.Duration
}

// Sums are the sums of usage of a store. They are safe for concurrent use.
type Sums struct {
	o     Options
	sweep rollup.Sweep
}

// New returns the sums of a store.
func New(o Options) *Sums { return &Sums{o: o} }

// UsageReport sums charges up as the query asks, from one snapshot of the database.
// Errors: ledger.ErrInvalid, and ErrNotFound if an account of the query does not exist.
func (s *Sums) UsageReport(ctx context.Context, q ledger.UsageQuery) (ledger.UsageReport, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	tx, err := s.o.Begin(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return ledger.UsageReport{}, s.o.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the transaction is read-only
	return rollup.Report(ctx, &reader{tx, s.o.Failure}, q)
}

// KeyUsage returns the sums of lineages of keys since the beginning of a day, from one
// snapshot of the database; see rollup.KeySums.
func (s *Sums) KeyUsage(ctx context.Context, lineages []string, since time.Time) (map[string]ledger.UsageSums, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	tx, err := s.o.Begin(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, s.o.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the transaction is read-only
	return rollup.KeySums(ctx, &reader{tx, s.o.Failure}, lineages, since)
}

// SumUsage adds the next transactions of the journal to the sums, in one transaction
// with the cursor. If all are summed up already, it deletes some expired hourly sums
// instead. SumUsage does nothing while another node runs it.
func (s *Sums) SumUsage(ctx context.Context) (p ledger.UsageProgress, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	tx, err := s.o.Begin(ctx, pgx.TxOptions{})
	if err != nil {
		return p, s.o.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // has no effect after a commit
	if p, err = s.progress(ctx, tx); err != nil {
		return p, s.o.Failure(ctx, err)
	}
	var turn bool
	err = tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1, $2)`, pgschema.LockSpace, pgschema.UsageLock).Scan(&turn)
	if err != nil || !turn {
		return p, s.o.Failure(ctx, err)
	}
	if p.Pending == 0 {
		err = s.sweepSums(ctx, tx)
	} else {
		var end int64
		if end, err = s.journalEnd(ctx); err == nil {
			p, err = s.step(ctx, tx, end)
		}
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		return ledger.UsageProgress{}, s.o.Failure(ctx, err)
	}
	return p, nil
}

// journalEnd returns the highest number in the journal. No transaction that commits
// later gets a lower number. journalEnd uses a short transaction of its own, because
// writers to the journal wait until this transaction ends.
func (s *Sums) journalEnd(ctx context.Context) (end int64, err error) {
	tx, err := s.o.Begin(ctx, pgx.TxOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// This timeout must be shorter than the server's limit for idle transactions,
	// because the transaction of SumUsage is idle meanwhile.
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '1s'`); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT journal_end()`).Scan(&end)
	return end, err
}

// step adds the next transactions of the journal to the sums. It adds no transaction
// with a number greater than end.
func (s *Sums) step(ctx context.Context, tx pgx.Tx, end int64) (p ledger.UsageProgress, err error) {
	r := &reader{tx, func(_ context.Context, err error) error { return err }}
	state, err := r.State(ctx)
	if err != nil {
		return p, err
	}
	b := rollup.NewBatch(&state, rowsMost)
	if err := b.Fill(ctx, r, end, readMost); err != nil || b.Count == 0 {
		return p, err
	}
	if err := write(ctx, tx, b, b.Numbers); err != nil {
		return p, err
	}
	p, err = s.progress(ctx, tx)
	p.Summed, p.More = b.Count, b.Last < end
	return p, err
}

// CountCalls adds refused and failed calls to the sums. It leaves out calls of accounts
// that do not exist. It waits for a node that sums the journal up, because both give
// numbers to names. If the server crashes right after, the counts are lost.
func (s *Sums) CountCalls(ctx context.Context, calls []ledger.CallCount) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	tx, err := s.o.Begin(ctx, pgx.TxOptions{})
	if err != nil {
		return s.o.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing after a commit
	if _, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, pgschema.LockSpace, pgschema.UsageLock); err == nil {
		err = countCalls(ctx, tx, calls)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	return s.o.Failure(ctx, err)
}

// countCalls writes the counts. The transaction has the advisory lock.
func countCalls(ctx context.Context, tx pgx.Tx, calls []ledger.CallCount) error {
	r := &reader{tx, func(_ context.Context, err error) error { return err }}
	numbers, err := r.accountNumbers(ctx, calls)
	if err != nil {
		return err
	}
	var list []rollup.Transaction
	for i := range calls {
		account, provider := numbers[calls[i].Account], numbers[calls[i].Provider]
		if account != 0 && provider != 0 {
			list = append(list, rollup.CallsOf(&calls[i], account, provider))
		}
	}
	if len(list) == 0 {
		return nil
	}
	state, err := r.State(ctx)
	if err != nil {
		return err
	}
	b, err := rollup.CallBatch(ctx, r, &state, list)
	if err != nil {
		return err
	}
	return write(ctx, tx, b, b.Numbers)
}

// progress returns how far the sums are behind.
func (s *Sums) progress(ctx context.Context, tx pgx.Tx) (p ledger.UsageProgress, err error) {
	var lag float64
	err = tx.QueryRow(ctx, `SELECT greatest(coalesce((SELECT max(seq) FROM txn), 0) - cursor, 0),
		greatest(coalesce(extract(epoch FROM moved_clock($1) - (SELECT at FROM txn WHERE seq > cursor ORDER BY seq LIMIT 1)), 0), 0)::float8
		FROM usage_state`, s.o.Shift()).Scan(&p.Pending, &lag)
	p.Lag = time.Duration(lag * float64(time.Second))
	return p, err
}

// write adds the rows of the batch to the sums, stores its new numbers, and moves the
// cursor.
func write(ctx context.Context, tx pgx.Tx, b *rollup.Batch, numbers *rollup.Numbers) error {
	var q pgx.Batch
	q.Queue(`SET LOCAL synchronous_commit = off`)
	q.Queue(`UPDATE usage_state SET cursor = $1, cursor_at = $2`, b.Last, b.LastAt)
	if n := len(numbers.NewKeys); n > 0 {
		ns, accounts, lineages := make([]int64, n), make([]int64, n), make([]string, n)
		for i, k := range numbers.NewKeys {
			ns[i], accounts[i], lineages[i] = k.N, k.Name.Account, pgvalue.Pack(k.Name.Lineage)
		}
		q.Queue(`INSERT INTO usage_key (n, account, lineage) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])`, ns, accounts, lineages)
	}
	if n := len(numbers.NewNames); n > 0 {
		ns, names := make([]int64, n), make([]string, n)
		for i, k := range numbers.NewNames {
			ns[i], names[i] = k.N, pgvalue.Pack(k.Name)
		}
		q.Queue(`INSERT INTO usage_name (n, name) SELECT * FROM unnest($1::bigint[], $2::text[])`, ns, names)
	}
	if rows := b.Rows(); len(rows) > 0 {
		var columns [15][]int64
		for i := range rows {
			r := &rows[i]
			for j, n := range [...]int64{r.View, r.Subject, r.Bucket, r.X, r.Y, r.Z, r.Calls, r.Free, int64(r.Charged),
				r.RefundCount, int64(r.Refunded), int64(r.Fee), int64(r.FeeReturned), r.Refused, r.Failed} {
				columns[j] = append(columns[j], n)
			}
		}
		args := make([]any, len(columns))
		for i := range columns {
			args[i] = columns[i]
		}
		q.Queue(addSums, args...)
	}
	return tx.SendBatch(ctx, &q).Close()
}

// addSums adds to the sums in rows. An amount that would overflow becomes the greatest
// bigint.
const addSums = `INSERT INTO usage_sum AS s (view, subject, bucket, x, y, z, calls, free, charged, refund_count, refunded, fee, fee_returned, refused, failed)
	SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
		$10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[])
	ON CONFLICT (view, subject, bucket, x, y, z) DO UPDATE SET
		calls = s.calls + excluded.calls, free = s.free + excluded.free, refund_count = s.refund_count + excluded.refund_count,
		refused = s.refused + excluded.refused, failed = s.failed + excluded.failed,
		charged = least(s.charged::numeric + excluded.charged, 9223372036854775807)::bigint,
		refunded = least(s.refunded::numeric + excluded.refunded, 9223372036854775807)::bigint,
		fee = least(s.fee::numeric + excluded.fee, 9223372036854775807)::bigint,
		fee_returned = least(s.fee_returned::numeric + excluded.fee_returned, 9223372036854775807)::bigint`

// SumUsageTo sums transactions up until the sums include transaction number seq. It
// stops early if the journal has no such transaction.
func (s *Sums) SumUsageTo(ctx context.Context, seq int64) error {
	for {
		if _, err := s.SumUsage(ctx); err != nil {
			return err
		}
		behind, err := s.behind(ctx, seq)
		if err != nil || !behind {
			return err
		}
		if err := clock.Sleep(ctx, 10*time.Millisecond); err != nil { // wait, because another node may be summing up
			return err
		}
	}
}

// behind reports whether the sums do not include transaction number seq yet. It returns
// false if the journal has no such transaction.
func (s *Sums) behind(ctx context.Context, seq int64) (behind bool, err error) {
	tx, err := s.o.Begin(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, s.o.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the transaction is read-only
	err = tx.QueryRow(ctx, `SELECT (SELECT cursor FROM usage_state) < $1 AND EXISTS (SELECT FROM txn WHERE seq = $1)`, seq).Scan(&behind)
	return behind, s.o.Failure(ctx, err)
}
