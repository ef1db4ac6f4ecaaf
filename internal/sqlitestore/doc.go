// Package sqlitestore keeps keys, the ledger and the audit log in one SQLite
// file that one process owns.
//
// Memory is the authority while the process lives. It has the balances, and the
// reservations with their expiry. At start, the balances are rebuilt from snapshots
// and from the tail of an append-only journal. Reserving and releasing do no I/O.
// Capturing appends one row, and captures that arrive together share one commit:
//
//	callers ── queue ──▶ writer: BEGIN, a row each, a few snapshots, COMMIT
//	                       └─▶ only then memory is updated and callers wake
//
// One goroutine, the writer, owns the one connection that writes. Changes by operators
// go through the same queue, each in its own transaction together with its audit row.
// Reads have connections of their own and never block the writer.
//
// After a failed COMMIT the outcome is in doubt, because rows with a failed fsync
// can reappear after the next start. The writer then closes its connection, opens a
// new one, forces the log into the database file and finishes each capture according
// to the journal found there. Until that works, the store refuses everything with
// ledger.ErrUnavailable and keeps trying.
//
// A crash releases all reservations and loses no acknowledged change.
package sqlitestore
