package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// failure returns the error for the caller of a failed query. It wraps ctx.Err() if
// ctx has ended, and ledger.ErrUnavailable otherwise.
func failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("asking the database: %w", ctx.Err())
	case errors.Is(err, ledger.ErrUnavailable):
		return err
	}
	return &outage{cause: err}
}

// found is like failure, but turns pgx.ErrNoRows into ledger.ErrNotFound.
func found(ctx context.Context, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(ctx, err)
}

// failed records an outage of the database, and returns the time at which it began.
func (s *Store) failed(err error) (since time.Time) {
	d := &outage{cause: err, since: clock.Now()}
	if s.ctx.Err() == nil && s.down.CompareAndSwap(nil, d) {
		s.o.Logger.Error("the database cannot be reached", "error", err)
	}
	if now := s.down.Load(); now != nil {
		return now.since
	}
	return d.since
}

// reached ends the outage that the method failed has recorded, if there is one.
func (s *Store) reached() {
	if d := s.down.Load(); d != nil && !errors.Is(d.cause, errClosed) && s.down.CompareAndSwap(d, nil) {
		s.o.Logger.Info("the database is reached again")
	}
}
