package pgstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// failure is what a caller is told of an error of the database: that of its own
// context if that has ended, else an ErrUnavailable.
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

// found is failure for a query of one row: an absent one is ErrNotFound.
func found(ctx context.Context, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(ctx, err)
}

// broken reports whether the error says that the server was not reached, or has
// gone away: it may have done what it was asked for.
func broken(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Connection exceptions, and a server that shuts down or starts.
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P")
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "conn closed")
}

// contended reports whether the transaction was rolled back because of what
// others did at the same time, so that it can be tried again at once.
func contended(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "23505": // serialization, deadlock, an id that came to be known meanwhile
		return true
	}
	return false
}

// overloaded reports whether the server had no time, place or connection for
// the transaction, which was rolled back. To split a batch would not help.
func overloaded(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return true
	}
	switch e.Code[:2] {
	case "25", "53", "55", "57", "58", "XX":
		return true
	}
	return false
}

// failed notes that the database could not be reached, and returns since when.
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

// reached notes that it could.
func (s *Store) reached() {
	if d := s.down.Load(); d != nil && d.cause != errClosed && s.down.CompareAndSwap(d, nil) { //nolint:errorlint // the very one
		s.o.Logger.Info("the database is reached again")
	}
}
