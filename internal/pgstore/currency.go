package pgstore

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// UseCurrency records the currency (ISO 4217) of the store's amounts, unless a node has
// already recorded one. If the recorded currency differs from the given one, it returns
// a *ledger.CurrencyError. It may be called at any time.
func (s *Store) UseCurrency(ctx context.Context, code string) error {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	var stored string
	err := s.pool.QueryRow(ctx, `UPDATE figure SET currency = CASE currency WHEN '' THEN $1 ELSE currency END RETURNING currency`, code).Scan(&stored)
	if err != nil {
		return pgquery.Failure(ctx, err)
	}
	return ledger.CheckCurrency(stored, code)
}
