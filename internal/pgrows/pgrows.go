// Package pgrows implements sqltx.Database on the connections of a store on PostgreSQL.
package pgrows

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgschema"
	"github.com/fareboxhq/farebox/internal/pgvalue"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Database gives access to the rows of other packages. All fields must be set to
// functions of the store.
type Database struct {
	Begin   func(context.Context, pgx.TxOptions) (pgx.Tx, error)
	Query   func(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	Bounded func(context.Context) (context.Context, context.CancelFunc) // returns the context of a call, which has a deadline
	Failure func(context.Context, error) error                          // returns the error of a call after a statement failed
	Shift   func() int64                                                // returns how far the store's clock is ahead of the server's clock, in microseconds
	Audited func(ledger.Audit)                                          // called with each audit row after its commit
}

// conn implements sqltx.Conn. It keeps the first failure of the database, so that such
// a failure can be distinguished from an error of the function that uses conn.
type conn struct {
	ctx    context.Context
	query  func(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	tx     pgx.Tx // nil in a view
	shift  int64
	audits []ledger.Audit
	failed error
}

var errReadOnly = errors.New("a view of the database cannot change it")

// note remembers the first failure and returns err.
func (c *conn) note(err error) error {
	if c.failed == nil {
		c.failed = err
	}
	return err
}

// Exec runs a statement.
func (c *conn) Exec(query string, args ...any) (int64, error) {
	if c.tx == nil {
		return 0, errReadOnly
	}
	done, err := c.tx.Exec(c.ctx, query, args...)
	return done.RowsAffected(), c.note(err)
}

// Query calls each(scan) once for every row of the result.
func (c *conn) Query(each func(scan func(into ...any) error) error, query string, args ...any) error {
	rows, err := c.query(c.ctx, query, args...)
	if err != nil {
		return c.note(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(func(into ...any) error { return c.note(rows.Scan(into...)) }); err != nil {
			return err
		}
	}
	return c.note(rows.Err())
}

// Audit writes an audit row.
func (c *conn) Audit(a ledger.Audit) error {
	c.audits = append(c.audits, a)
	_, err := c.Exec(`INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (coalesce($1, moved_clock($7)), $2, $3, $4, $5, $6)`,
		pgvalue.Column(a.At), pgvalue.Pack(a.Actor), pgvalue.Pack(a.From), pgvalue.Pack(a.Action), pgvalue.Pack(a.Target), pgvalue.Pack(a.Detail), c.shift)
	return err
}

// View calls do(c). The statements of do() run on connections of the store's pool,
// outside of a transaction.
func (d *Database) View(ctx context.Context, do func(sqltx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := d.Bounded(ctx)
	defer cancel()
	c := &conn{ctx: ctx, query: d.Query}
	err := do(c)
	if c.failed != nil {
		return d.Failure(ctx, c.failed)
	}
	return err
}

// Change calls do(c) in a transaction, under a lock that all changes of all nodes take.
func (d *Database) Change(ctx context.Context, do func(sqltx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := d.Bounded(ctx)
	defer cancel()
	tx, err := d.Begin(ctx, pgx.TxOptions{})
	if err != nil {
		return d.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // has no effect after a commit
	c := &conn{ctx: ctx, query: tx.Query, tx: tx, shift: d.Shift()}
	if _, err := c.Exec(`SELECT pg_advisory_xact_lock($1, $2)`, pgschema.LockSpace, pgschema.RowsLock); err != nil {
		return d.Failure(ctx, err)
	}
	err = do(c)
	if c.failed != nil {
		return d.Failure(ctx, c.failed)
	}
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return d.Failure(ctx, err)
	}
	for _, a := range c.audits {
		d.Audited(a)
	}
	return nil
}
