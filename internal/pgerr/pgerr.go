// Package pgerr classifies errors from PostgreSQL, and from connections to PostgreSQL,
// by the way in which a caller can proceed (PostgreSQL documentation, appendix A: error
// codes).
package pgerr

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Broken reports whether the server could not be reached or the connection was lost.
// The statement may or may not have run.
func Broken(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Class 08 has the connection exceptions. A server that shuts down or starts
		// sends codes that begin with 57P.
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P")
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// Contended reports whether the transaction was rolled back because it conflicted
// with a concurrent one. The caller can repeat the transaction at once.
func Contended(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "23505": // a serialization failure, a deadlock, and an id that another transaction used first
		return true
	}
	return false
}

// Overloaded reports whether the server had no time, space or connection for the
// transaction and rolled it back. Splitting a batch of operations into several
// transactions would not help then. Overloaded also returns true for an error that did
// not come from the server.
func Overloaded(err error) bool {
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
