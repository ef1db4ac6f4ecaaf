package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgschema"
	"github.com/fareboxhq/farebox/internal/pgusage"
)

// maxDifferences bounds the differences that a verification lists.
const maxDifferences = 1000

// Verify replays the whole journal and compares it with the balances, reservations,
// spend counters and idempotency keys in one snapshot of the database. Calls do not
// wait for it, but PostgreSQL cannot vacuum rows that become dead while Verify runs.
// Verify calls progress, if not nil, now and then. It returns differences in the
// Verification, not as an error. Only one verification of a store runs at a time; a
// second one waits until the first has ended or ctx ends.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error) {
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	case <-ctx.Done():
		return ledger.Verification{}, ctx.Err()
	}
	tx, err := s.db.Begin(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return ledger.Verification{}, pgquery.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the transaction is read-only
	v, err := verify(ctx, tx, progress)
	if err != nil {
		return ledger.Verification{}, pgquery.Failure(ctx, err)
	}
	return v, nil
}

// verify runs the checks in tx, which must read from one snapshot.
func verify(ctx context.Context, tx pgx.Tx, progress func(done, total int64)) (v ledger.Verification, err error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	_, err = tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '1min'; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on;
		SET LOCAL enable_mergejoin = on; SET LOCAL plan_cache_mode = auto`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return v, err
	}
	if err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM txn)`).Scan(&v.Accounts, &v.Transactions); err != nil {
		return v, err
	}
	if err := opening(ctx, tx, &v); err != nil {
		return v, err
	}
	v.Differences, err = pgschema.Check(ctx, tx, maxDifferences, func(done, checks int64) { progress(v.Transactions*done/checks, v.Transactions) })
	if err != nil {
		return v, err
	}
	found, err := pgusage.Verify(ctx, tx)
	v.Differences = append(v.Differences, found[:min(len(found), maxDifferences-len(v.Differences))]...)
	progress(v.Transactions, v.Transactions)
	return v, err
}
