package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Rows returns access to the tables of other packages, such as those of the console's
// people.
func (s *Store) Rows() sqltx.Database { return database{s} }

// database implements sqltx.Database.
type database struct{ s *Store }

// View calls do(c) with a connection c that can only read.
func (d database) View(ctx context.Context, do func(sqltx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Refuse while the store is down, because it may be unknown whether the last
	// change, such as the end of a session, became durable.
	if err := d.s.Healthy(); err != nil {
		return err
	}
	return do(viewing{d.s.readers})
}

// Change calls do(c) in the writer's goroutine, in a transaction of its own.
func (d database) Change(ctx context.Context, do func(sqltx.Conn) error) error {
	return d.s.do(ctx, func(t *tx) error { return do(changing{t, d.s}) })
}

var errReadOnly = errors.New("a view of the database cannot change it")

// viewing is the connection of a view.
type viewing struct{ db *sql.DB }

// Exec always fails, because a view only reads.
func (v viewing) Exec(string, ...any) (int64, error) { return 0, errReadOnly }

// Audit always fails, because a view only reads.
func (v viewing) Audit(ledger.Audit) error { return errReadOnly }

// Query calls each(scan) once for every row of the result.
func (v viewing) Query(each func(scan func(into ...any) error) error, query string, args ...any) error {
	rows, err := v.db.QueryContext(background(), query, args...)
	return eachRow(rows, err, each)
}

// changing is the writer's connection during a change.
type changing struct {
	t *tx
	s *Store
}

// Exec runs a statement.
func (c changing) Exec(query string, args ...any) (int64, error) { return c.t.exec(query, args...) }

// Audit writes an audit row.
func (c changing) Audit(a ledger.Audit) error { return c.t.audit(a, c.s.now()) }

// Query calls each(scan) once for every row of the result.
func (c changing) Query(each func(scan func(into ...any) error) error, query string, args ...any) error {
	rows, err := c.t.w.conn.QueryContext(background(), query, args...)
	return eachRow(rows, err, each)
}

// eachRow calls each(scan) once for every row, and then closes the rows.
func eachRow(rows *sql.Rows, err error, each func(scan func(into ...any) error) error) error {
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(func(into ...any) error { return failure(rows.Scan(into...)) }); err != nil {
			return err
		}
	}
	return failure(rows.Err())
}
