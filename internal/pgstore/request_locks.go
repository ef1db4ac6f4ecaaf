package pgstore

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// LockRequestID takes a lock for all nodes, for at most ttl. It returns false if the
// lock is held. Errors wrap ledger.ErrUnavailable and leave open whether it was taken.
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

// UnlockRequestID releases the lock at once or, if keep is positive, after keep.
func (s *Store) UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if keep > 0 {
		return failure(ctx, s.exec(ctx, `UPDATE request_lock SET until = clock_timestamp() + $2::interval WHERE hash = $1`, m[:], keep))
	}
	return failure(ctx, s.exec(ctx, `DELETE FROM request_lock WHERE hash = $1`, m[:]))
}
