package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// failure returns the error for the caller of a failed query: that of its own context
// if that has ended, else an ErrUnavailable.
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

// found is failure for a query of one row: without a row it returns ErrNotFound.
func found(ctx context.Context, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(ctx, err)
}

// broken reports whether the server could not be reached, or was lost on the way, so
// that the statement may have run.
func broken(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Connection exceptions, and a server that shuts down or starts.
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P")
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// contended reports whether the transaction was rolled back because of concurrent
// ones, and can be repeated at once.
func contended(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "23505": // serialization failure, deadlock, an id that another transaction used first
		return true
	}
	return false
}

// overloaded reports whether the server had no time, space or connection for the
// transaction, which was rolled back. Splitting the batch would not help.
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

// failed records that the database cannot be reached, and returns since when.
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

// reached records that the database can be reached.
func (s *Store) reached() {
	if d := s.down.Load(); d != nil && !errors.Is(d.cause, errClosed) && s.down.CompareAndSwap(d, nil) {
		s.o.Logger.Info("the database is reached again")
	}
}
