package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// changes is the open transaction of an operator's change. If a node stops before it
// commits, the server disconnects the node after idleTime.
type changes struct {
	tx      *pgxpool.Conn
	revoked [][]byte // digests of the keys that the change creates or alters
}

// refused wraps an error that is the caller's fault, not a failure of the database.
type refused struct{ cause error }

// Error returns the text of the cause.
func (r *refused) Error() string { return r.cause.Error() }

func refuse(format string, args ...any) error { return &refused{fmt.Errorf(format, args...)} }

// asked calls change(v), a function that the caller of a store's method has passed. It
// turns a panic into an error, so that the transaction does not stay open.
func asked(change func(*keys.Key) error, v *keys.Key) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = refuse("panic in a change: %v", p)
		}
	}()
	if err := change(v); err != nil {
		return &refused{err}
	}
	return nil
}

// change calls do(ctx, c) in a transaction, then writes the audit row and the
// revocations and commits. After a failed commit the outcome is unknown. After any
// other error nothing has changed.
func (s *Store) change(ctx context.Context, audit ledger.Audit, do func(context.Context, *changes) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	conn, err := s.transact(ctx)
	if err != nil {
		return pgquery.Failure(ctx, err)
	}
	defer conn.Release() // closes the connection if the transaction is still open, so that the server rolls back
	c := &changes{tx: conn}
	if err = do(ctx, c); err == nil {
		err = s.finish(ctx, c, audit)
	}
	if err != nil && !conn.Conn().IsClosed() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), `ROLLBACK`)
	}
	var r *refused
	if errors.As(err, &r) {
		return r.cause
	}
	return pgquery.Failure(ctx, err)
}

// transact begins a transaction. The caller must release the connection.
func (s *Store) transact(ctx context.Context) (conn *pgxpool.Conn, err error) {
	err = s.db.Retry(ctx, func() error {
		if conn, err = s.pool.Acquire(ctx); err != nil {
			return err
		}
		if _, err = conn.Exec(ctx, `BEGIN`); err != nil {
			conn.Release()
		}
		return err
	})
	return conn, err
}

// finish writes the audit row and the revocations, and commits, in one round trip. The
// SQL function revoke takes a lock that all nodes share. The COMMIT travels in the same
// batch, so that the server never holds this lock while it waits for the node.
func (s *Store) finish(ctx context.Context, c *changes, a ledger.Audit) error {
	var b pgx.Batch
	b.Queue(`INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (coalesce($1, moved_clock($7)), $2, $3, $4, $5, $6)`,
		pgvalue.Column(a.At), pgvalue.Pack(a.Actor), pgvalue.Pack(a.From), pgvalue.Pack(a.Action), pgvalue.Pack(a.Target), pgvalue.Pack(a.Detail), s.shift())
	slices.SortFunc(c.revoked, slices.Compare)
	for _, digest := range c.revoked {
		b.Queue(`SELECT revoke($1, moved_clock($2))`, digest, s.shift())
	}
	b.Queue(`COMMIT`)
	if err := c.tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("writing the audit log and committing: %w", err)
	}
	s.o.Audited(a)
	return nil
}
