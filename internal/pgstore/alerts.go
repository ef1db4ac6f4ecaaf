package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// LiveBalances returns a map of account ids to live balances. It leaves out unknown
// ids.
func (s *Store) LiveBalances(ctx context.Context, ids []string) (map[string]ledger.Balance, error) {
	found := make(map[string]ledger.Balance, len(ids))
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return found, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.accounts(ctx, s.db.Query, `a.id = ANY($2::text[])`, pgvalue.PackAll(ids))
	for i := range rows {
		found[rows[i].ID] = rows[i].Live
	}
	return found, err
}

// KeysByID returns the keys with the given ids. It leaves out unknown ids.
func (s *Store) KeysByID(ctx context.Context, ids []string) ([]keys.Key, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, selectKey+`WHERE id = ANY($1::text[])`, pgvalue.PackAll(ids))
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanKey)
	list := make([]keys.Key, len(found))
	for i := range found {
		list[i] = found[i].Key
	}
	return list, pgquery.Failure(ctx, err)
}
