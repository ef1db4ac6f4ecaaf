package pgstore

import (
	"context"
	"errors"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// OrderByID returns the order of the captured charge with the given id, or else the
// order of the reservation, in any state, as long as the store remembers the
// reservation. Errors: ledger.ErrNotFound, ErrUnavailable.
func (s *Store) OrderByID(ctx context.Context, id string) (o ledger.Order, err error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return o, err
	}
	if c, err := s.ChargeByID(ctx, id); !errors.Is(err, ledger.ErrNotFound) { // look for a charge first, because a capture deletes the reservation
		return c.Order, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	err = s.db.Row(ctx, `SELECT d.id, c.id, r.key, r.lineage, r.server, r.tool, r.amount, r.fee, coalesce(f.id, ''), r.test, coalesce(r.settler, '')
		FROM reservation r JOIN account d ON d.n = r.payer JOIN account c ON c.n = r.payee LEFT JOIN account f ON f.n = r.fee_to
		WHERE r.id = $1`, []any{asUUID(u)}, &o.Account, &o.Provider, &o.Key, &o.Lineage, &o.Server, &o.Tool, (*int64)(&o.Amount), (*int64)(&o.Fee), &o.FeeTo, &o.Test, &o.Settler)
	for _, text := range []*string{&o.Account, &o.Provider, &o.Key, &o.Lineage, &o.Server, &o.Tool, &o.FeeTo, &o.Settler} {
		*text = pgvalue.Unpack(*text)
	}
	if err = pgquery.Found(ctx, err); !errors.Is(err, ledger.ErrNotFound) {
		return o, err
	}
	c, err := s.ChargeByID(ctx, id) // the reservation may have been captured between the first two queries
	return c.Order, err
}
