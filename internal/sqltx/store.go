package sqltx

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Store gives a package access to its own rows in a database. T is the package's
// interface to the rows within one transaction. A Store is safe for concurrent use.
type Store[T any] struct {
	db   Database
	over func(Rows) T
}

// NewStore returns a Store in the database. The function over returns a T that uses the
// rows.
func NewStore[T any](db Database, over func(Rows) T) *Store[T] { return &Store[T]{db, over} }

// View calls do with a transaction that can only read.
func (s *Store[T]) View(ctx context.Context, do func(T) error) error {
	return s.db.View(ctx, func(c Conn) error { return do(s.over(Rows{c})) })
}

// Change calls do with a transaction. See Database.Change.
func (s *Store[T]) Change(ctx context.Context, do func(T) error) error {
	return s.db.Change(ctx, func(c Conn) error { return do(s.over(Rows{c})) })
}

// Rows is a Conn with methods for single rows. In texts that are passed as arguments, it
// replaces the characters that a database cannot store.
type Rows struct{ Conn }

// Exec runs a statement and returns the number of rows that it has changed.
func (r Rows) Exec(query string, args ...any) (int64, error) {
	return r.Conn.Exec(query, storable(args)...)
}

// Query calls each for every row of the result.
func (r Rows) Query(each func(scan func(into ...any) error) error, query string, args ...any) error {
	return r.Conn.Query(each, query, storable(args)...)
}

// storable replaces the characters that a database cannot store. Texts to store were
// checked before.
func storable(args []any) []any {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = Text(text)
		}
	}
	return args
}

// One calls row with the columns of the first row, or returns ledger.ErrNotFound.
func (r Rows) One(row func(scan func(...any) error) error, query string, args ...any) error {
	found := false
	err := r.Query(func(scan func(...any) error) error {
		found = true
		return row(scan)
	}, query, args...)
	if err == nil && !found {
		return ledger.ErrNotFound
	}
	return err
}

// Insert runs an insertion that does nothing if the row exists, and returns
// ledger.ErrExists in that case.
func (r Rows) Insert(query string, args ...any) error {
	n, err := r.Exec(query, args...)
	if err == nil && n == 0 {
		return ledger.ErrExists
	}
	return err
}

// Update runs an update, and returns ledger.ErrNotFound if it changed no row.
func (r Rows) Update(query string, args ...any) error {
	n, err := r.Exec(query, args...)
	if err == nil && n == 0 {
		return ledger.ErrNotFound
	}
	return err
}
