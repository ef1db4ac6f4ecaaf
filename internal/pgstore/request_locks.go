package pgstore

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// LockRequestID locks the id m on all nodes for at most ttl, or returns false if m is
// locked already. After an error, which wraps ledger.ErrUnavailable, m may be locked.
func (s *Store) LockRequestID(ctx context.Context, m ledger.HandleHash, ttl time.Duration) (bool, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	tag, err := s.pool.Exec(ctx, `INSERT INTO request_lock AS l (hash, until) VALUES ($1, clock_timestamp() + $2::interval)
		ON CONFLICT (hash) DO UPDATE SET until = excluded.until WHERE l.until < clock_timestamp()`, m[:], ttl)
	if err != nil {
		return false, failure(ctx, err)
	}
	return tag.RowsAffected() == 1, nil
}

// UnlockRequestID unlocks m at once or, if keep is positive, after the time keep.
func (s *Store) UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if keep > 0 {
		return failure(ctx, s.exec(ctx, `UPDATE request_lock SET until = clock_timestamp() + $2::interval WHERE hash = $1`, m[:], keep))
	}
	return failure(ctx, s.exec(ctx, `DELETE FROM request_lock WHERE hash = $1`, m[:]))
}
