// Package pgstore keeps keys, the ledger and the audit log in one PostgreSQL
// database that any number of gateways share. Nothing about money is known in
// memory: each decision is one statement, a function in the database that
// carries out a whole batch of operations in a transaction of its own.
//
//	callers ── queue ──▶ lane: a batch, one call of apply, one commit
//	                       └─▶ callers wake with an outcome each
//
// A node that stops in the middle therefore holds no lock that others wait
// for. Each node has two lanes, with a connection each: one reserves, renews
// and releases, and its commits may be lost with the database's machine (then a
// reservation is forgotten, and its call is charged conditionally); the other
// one captures, and its commits are on disk when callers wake.
//
// The row of an account is the lock for all that it spends. What it earns from
// others is added as rows of its own and folded into its balance later, so that
// those who pay one provider do not wait for one another. Reservations are
// rows that expire by the database's clock, whoever made them.
//
// A connection that breaks while a batch runs leaves its outcome unknown. The
// batch is then sent again: each operation finds by its id what became of it
// the first time. Where that does not succeed in time callers get
// ledger.ErrUnavailable, and may ask again under the same id themselves.
package pgstore
