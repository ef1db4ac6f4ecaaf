// Package pgnode reads the leases of the nodes at a store on PostgreSQL, and keeps the
// description of each node beside its lease.
package pgnode

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// maxLeases bounds the leases that Leases returns.
const maxLeases = 1000

// Nodes reads and describes the nodes of a store. It is safe for concurrent use.
type Nodes struct{ db *pgquery.DB }

// New returns the Nodes of the store behind db.
func New(db *pgquery.DB) *Nodes { return &Nodes{db} }

// Introduce stores the description of a node that has a lease. It does nothing if the
// node has no row. Errors wrap ledger.ErrUnavailable.
func (n *Nodes) Introduce(ctx context.Context, node, about string) error {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	return pgquery.Failure(ctx, n.db.Exec(ctx, `UPDATE node SET about = $2 WHERE id = $1`, node, about))
}

// Leases returns the leases of the nodes that use the database themselves, sorted by the
// names of the nodes. It includes leases that have ended lately. It leaves out gateways
// without a store, which hold leases under names with a slash. Errors wrap
// ledger.ErrUnavailable.
func (n *Nodes) Leases(ctx context.Context) (list []keys.Lease, err error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := n.db.Query(ctx, `SELECT id, coalesce(about, ''), (extract(epoch FROM lease_until - clock_timestamp()) * 1000000)::bigint
		FROM node WHERE position('/' IN id) = 0 ORDER BY id LIMIT $1`, maxLeases)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	var l keys.Lease
	var left int64
	_, err = pgx.ForEachRow(rows, []any{&l.Node, &l.About, &left}, func() error {
		l.Left = time.Duration(left) * time.Microsecond
		list = append(list, l)
		return nil
	})
	return list, pgquery.Failure(ctx, err)
}
