// Package pgquery sends SQL statements to the PostgreSQL database of a store. If a
// connection turns out to be dead, it sends the statement again on another connection,
// provided that the statement is safe to repeat. Its errors are those of package
// ledger.
package pgquery

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/pgerr"
)

// DB sends statements. It is safe for concurrent use. All fields must be set.
type DB struct {
	Pool *pgxpool.Pool
	// Refresh drops idle connections of the store, because after a restart of the
	// server a dead connection looks alive until it is used.
	Refresh func()
}

// Retry calls do(). If the connection turns out to be dead, Retry calls do() a second
// time, so do() must be safe to repeat.
func (d *DB) Retry(ctx context.Context, do func() error) error {
	err := do()
	if err != nil && pgerr.Broken(err) && ctx.Err() == nil {
		d.Refresh()
		err = do()
	}
	return err
}

// Query sends a query that is safe to repeat.
func (d *DB) Query(ctx context.Context, text string, args ...any) (rows pgx.Rows, err error) {
	err = d.Retry(ctx, func() error {
		rows, err = d.Pool.Query(ctx, text, args...)
		return err
	})
	return rows, err
}

// Row scans the first row of a query, or returns pgx.ErrNoRows if there is no row. The
// query must be safe to repeat.
func (d *DB) Row(ctx context.Context, text string, args []any, into ...any) error {
	rows, err := d.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Exec runs a statement that is safe to repeat.
func (d *DB) Exec(ctx context.Context, text string, args ...any) error {
	return d.Retry(ctx, func() error {
		_, err := d.Pool.Exec(ctx, text, args...)
		return err
	})
}

// Begin opens a transaction.
func (d *DB) Begin(ctx context.Context, o pgx.TxOptions) (tx pgx.Tx, err error) {
	err = d.Retry(ctx, func() error {
		tx, err = d.Pool.BeginTx(ctx, o)
		return err
	})
	return tx, err
}
