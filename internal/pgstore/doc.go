// Package pgstore keeps keys, the ledger and the audit log in one PostgreSQL
// database that any number of gateways share. A function in the database makes all
// decisions about money. One statement passes a whole batch of operations to this
// function, which carries them out in one transaction.
//
//	callers ── queue ──▶ batcher: one batch, one call of apply, one commit
//	                       └─▶ each caller wakes with its outcome
//
// The database never waits for the node during this transaction. So if a node stops,
// it leaves no lock that could block other nodes.
//
// Each node has two batchers, each with its own connection. One batcher captures; its
// commits are on disk before its callers wake. The other batcher reserves, renews and
// releases. If the database's machine crashes, the last commits of that batcher may be
// lost; a call without its reservation is charged only if the balance still allows it.
//
// Spending locks the row of the account. Earnings are separate rows that are added
// to the balance later, so that payers of the same provider do not wait for each
// other. Reservations are rows that expire by the database's clock, whether or not
// the node that made them still runs.
//
// If a connection breaks while a batch runs, the outcome is unknown. The batch is
// sent again, and each operation finds its first outcome by its id. If that does not
// succeed in time, callers get ledger.ErrUnavailable and may retry with the same id.
//
// Package pgschema defines the tables, types and functions; its Migrate explains how
// nodes of different versions share a database.
package pgstore
