// Package sqltx lets other packages keep rows in the database of a store, whatever
// kind of database it is. Both SQLite and PostgreSQL must understand the statements:
// placeholders are $1, $2 and so on, texts are valid UTF-8 without zero bytes, and
// times and flags are integers.
package sqltx

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Conn is a connection to the database during one call of View or Change. It must not
// be used after that call, or by several goroutines at once.
type Conn interface {
	// Exec runs a statement and returns the number of rows that it has changed.
	Exec(query string, args ...any) (rows int64, err error)
	// Query calls each(scan) for every row of the result. A call of scan reads the
	// columns of the row into pointers, which may point to an int64, a string or a
	// []byte.
	Query(each func(scan func(into ...any) error) error, query string, args ...any) error
	// Audit writes a record to the audit log, in the transaction of Change. It fails if
	// the Conn belongs to a call of View.
	Audit(a ledger.Audit) error
}

// Database is a store's database. It is safe for concurrent use. Errors of the database
// wrap ledger.ErrUnavailable, or the error of the context.
type Database interface {
	// View calls do(conn) with a connection that can only read. View fails while it is
	// unknown whether the last change of this process is durable. If the call fails,
	// View returns the error of the call.
	View(ctx context.Context, do func(Conn) error) error
	// Change calls do(conn) in a transaction. At any time, at most one call of Change
	// runs on all nodes that share the database. The call of do must be quick, because
	// other calls of Change wait for it. If the call succeeds, the transaction is
	// durable before Change returns. If the call fails, the transaction is rolled back,
	// and Change returns the error of the call. If Change returns an error of the
	// database, the transaction may or may not have been committed.
	Change(ctx context.Context, do func(Conn) error) error
}
