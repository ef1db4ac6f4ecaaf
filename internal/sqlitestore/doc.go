// Package sqlitestore keeps keys, the ledger and the audit log in one SQLite
// file that one process owns.
//
// Memory is the authority while the process lives: balances, reservations and
// their expiry are there, rebuilt at start from snapshots and the tail of an
// append-only journal. Reserving and releasing do no I/O. Capturing appends one
// row, and captures that arrive together share one commit:
//
//	callers ── queue ──▶ writer: BEGIN, a row each, a few snapshots, COMMIT
//	                       └─▶ only then memory moves on and callers wake
//
// One goroutine owns the one connection that writes. Changes by operators go
// through the same queue, each in its own transaction together with its audit
// row. Readers have connections of their own and never hold the writer up.
//
// A COMMIT that fails leaves its outcome unknown, because rows whose fsync
// failed can be there again after the next start. The writer then closes its
// connection, opens a new one, forces what is there to the database file and
// answers each caller from it. Until that works, the store refuses everything
// with ledger.ErrUnavailable and keeps trying.
//
// A crash releases what was reserved and loses nothing that was acknowledged.
package sqlitestore
