package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/pgerr"
)

// refresh drops the idle connections of all pools, because after a restart of the
// server a dead connection looks alive until it is used.
func (s *Store) refresh() {
	for _, p := range [...]*pgxpool.Pool{s.pool, s.reserves.pool, s.settles.pool} {
		p.Reset()
	}
}

// fresh calls the function do, and calls it again if the connection turns out to be
// dead. The function must be safe to repeat.
func (s *Store) fresh(ctx context.Context, do func() error) error {
	err := do()
	if err != nil && pgerr.Broken(err) && ctx.Err() == nil {
		s.refresh()
		err = do()
	}
	return err
}

// query sends a query that is safe to repeat.
func (s *Store) query(ctx context.Context, text string, args ...any) (rows pgx.Rows, err error) {
	err = s.fresh(ctx, func() error {
		rows, err = s.pool.Query(ctx, text, args...)
		return err
	})
	return rows, err
}

// row scans the first row of a query, or returns pgx.ErrNoRows if there is no row.
func (s *Store) row(ctx context.Context, text string, args []any, into ...any) error {
	rows, err := s.query(ctx, text, args...)
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

// exec runs a statement that is safe to repeat.
func (s *Store) exec(ctx context.Context, text string, args ...any) error {
	return s.fresh(ctx, func() error {
		_, err := s.pool.Exec(ctx, text, args...)
		return err
	})
}

// begin opens a transaction.
func (s *Store) begin(ctx context.Context, o pgx.TxOptions) (tx pgx.Tx, err error) {
	err = s.fresh(ctx, func() error {
		tx, err = s.pool.BeginTx(ctx, o)
		return err
	})
	return tx, err
}
