// Package pgstore keeps keys, the ledger and the audit log in one PostgreSQL
// database that any number of gateways share. It decides nothing about money in
// memory: each decision is one statement, a function in the database that carries
// out a whole batch of operations in a transaction of its own.
//
//	callers ── queue ──▶ batcher: one batch, one call of apply, one commit
//	                       └─▶ callers wake with an outcome each
//
// A node that stops halfway therefore holds no lock that others wait for. Each node
// has two batchers with a connection each. One reserves, renews and releases; if
// the database's machine fails, its last commits may be lost, which forgets a
// reservation, and the call is charged conditionally. The other captures, and its
// commits are on disk when callers wake.
//
// The account's row is the lock for its spending. Its earnings are rows of their
// own, folded into its balance later, so that the payers of one provider do not
// wait for one another. Reservations are rows that expire by the database's clock,
// independent of the node that made them.
//
// A connection that breaks while a batch runs leaves the outcome unknown. The batch
// is then sent again: each operation finds its first outcome by its id. If that
// does not succeed in time, callers get ledger.ErrUnavailable, and may ask again
// under the same id.
//
// The files in migrations make tables and types, those in functions the functions.
// See migrate.go for how nodes of different versions share a database.
package pgstore
