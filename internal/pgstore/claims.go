package pgstore

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// LockRequestID takes the mark for that long, for all nodes. It reports false if somebody
// has it. Errors wrap ledger.ErrUnavailable; then it may be taken all the same.
func (s *Store) LockRequestID(ctx context.Context, m ledger.HandleHash, life time.Duration) (bool, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	tag, err := s.pool.Exec(ctx, `INSERT INTO claim AS c (mark, until) VALUES ($1, clock_timestamp() + $2::interval)
		ON CONFLICT (mark) DO UPDATE SET until = excluded.until WHERE c.until < clock_timestamp()`, m[:], life)
	if err != nil {
		return false, failure(ctx, err)
	}
	return tag.RowsAffected() == 1, nil
}

// UnlockRequestID ends a lock, or has it end after that long.
func (s *Store) UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if keep > 0 {
		return failure(ctx, s.exec(ctx, `UPDATE claim SET until = clock_timestamp() + $2::interval WHERE mark = $1`, m[:], keep))
	}
	return failure(ctx, s.exec(ctx, `DELETE FROM claim WHERE mark = $1`, m[:]))
}
