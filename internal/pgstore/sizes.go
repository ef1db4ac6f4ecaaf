package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// Queue returns the number of operations that wait for a batch, and the number at which
// further callers wait for room.
func (s *Store) Queue() (length, limit int) {
	return len(s.reserves.queue) + len(s.settles.queue), 2 * maxQueue
}

// Connections returns how many connections are in use and how many are idle, the bound
// on their number, and the total time for which callers have waited for a connection.
// It does not count the connections of the batchers.
func (s *Store) Connections() (inUse, idle, limit int, waited time.Duration) {
	stat := s.pool.Stat()
	return int(stat.AcquiredConns()), int(stat.IdleConns()), int(stat.MaxConns()), stat.EmptyAcquireWaitTime()
}

// tableNames maps tables to their names in ledger.Sizes.
var tableNames = map[string]string{
	"account": "accounts", "key": "keys", "txn": "transactions", "idempotency": "idempotency_keys", "audit": "audit", "call_record": "call_records",
}

// Sizes measures the tables and indexes of the store. The database estimates the
// counts of rows; they are 0 before its first estimate. Sizes.Nodes counts the leases
// that have not ended.
func (s *Store) Sizes(ctx context.Context) (ledger.Sizes, error) {
	z := ledger.Sizes{Bytes: map[string]int64{}, Rows: map[string]int64{}}
	rows, err := s.db.Query(ctx, `
		SELECT relname, greatest(reltuples, 0)::bigint, pg_table_size(oid), pg_indexes_size(oid),
			(SELECT count(*) FROM node WHERE lease_until > clock_timestamp())
		FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace`)
	if err != nil {
		return ledger.Sizes{}, pgquery.Failure(ctx, err)
	}
	var table string
	var count, size, indexes, nodes int64
	_, err = pgx.ForEachRow(rows, []any{&table, &count, &size, &indexes, &nodes}, func() error {
		z.Bytes["tables"] += size
		z.Bytes["indexes"] += indexes
		z.Nodes = int(nodes)
		if name := tableNames[table]; name != "" {
			z.Rows[name] = count
		}
		return nil
	})
	return z, pgquery.Failure(ctx, err)
}
