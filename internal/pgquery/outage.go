package pgquery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	// StatementTime bounds a statement. The server enforces it.
	StatementTime = 10 * time.Second
	// Margin makes this node wait longer than the server. So the server ends a slow
	// statement first, and the connection stays usable.
	Margin = 2 * time.Second
)

// Bounded returns the context of a statement. The context ends Margin after the
// server's own timeout.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, StatementTime+Margin)
}

// Outage is the error of a database that cannot be reached.
type Outage struct {
	Cause error
	Since time.Time // when the outage began; zero if the time is unknown
}

// Error includes the text of the cause, which never contains a password.
func (o *Outage) Error() string { return fmt.Sprintf("%v: %v", ledger.ErrUnavailable, o.Cause) }

// Unwrap returns ledger.ErrUnavailable and the cause.
func (o *Outage) Unwrap() []error { return []error{ledger.ErrUnavailable, o.Cause} }

// Failure returns the error for the caller of a failed query. It wraps ctx.Err() if
// ctx has ended, and ledger.ErrUnavailable otherwise.
func Failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("asking the database: %w", ctx.Err())
	case errors.Is(err, ledger.ErrUnavailable):
		return err
	}
	return &Outage{Cause: err}
}

// Found is like Failure, but turns pgx.ErrNoRows into ledger.ErrNotFound.
func Found(ctx context.Context, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return Failure(ctx, err)
}
