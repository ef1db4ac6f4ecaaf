package pgstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// usable is the condition for keys that are neither disabled nor deleted, and expire
// between now and $2. $1 is the shift of the clock (see Store.shift).
const usable = `disabled_at IS NULL AND deleted_at IS NULL AND expires_at > (SELECT moved_clock($1)) AND expires_at <= $2`

// noTokens leaves out the tokens of OAuth clients.
const noTokens = ` AND kind NOT IN ('access', 'refresh')`

// Keys lists the keys that pass the filter, by default in the order of creation. It also
// returns the cursor of the next page, "" at the end.
func (s *Store) Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error) {
	if err := f.Sort.OneOf(ledger.ByCreation, ledger.ByCreationDown, ledger.ByName, ledger.ByNameDown); err != nil {
		return nil, "", err
	}
	after, err := f.Position(ctx, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	q := s.selectKeys(&f, after)
	rows, err := s.db.Query(ctx, q.Where, q.Args...)
	if err != nil {
		return nil, "", pgquery.Failure(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, "", pgquery.Failure(ctx, err)
	}
	list, next := page(found, f.Page, func(k *keyRow) (keys.Key, int64) { return k.Key, k.n })
	return list, next, nil
}

// selectKeys returns the query for one page of keys. The query asks for one key more
// than the page holds, to find out whether another page follows.
func (s *Store) selectKeys(f *ledger.KeyFilter, after int64) pgvalue.Conditions {
	q := pgvalue.Conditions{Where: selectKey + `WHERE true`}
	if !f.ExpiresBy.IsZero() {
		q = pgvalue.Conditions{Where: selectKey + `WHERE ` + usable, Args: []any{s.shift(), pgvalue.Micro(f.ExpiresBy)}}
	}
	q.Equal("account", f.Account)
	q.Equal("kind", f.Kind)
	if f.Kind == "" {
		q.Where += noTokens
	}
	order := pgvalue.Order{Number: "n", Down: f.Sort.Down()}
	if f.Sort.ByName() {
		order.By, order.ByOf = foldedName, `SELECT `+foldedName+` FROM key WHERE n = $%[1]d`
	}
	q.Page(order, after, f.Size()+1)
	return q
}

// foldedName is the name of a key as the index key_name has it.
const foldedName = `lower(name COLLATE "C")`

// CountExpiring counts, for each of the given times, the usable keys that expire by
// that time. It reads only a range of an index that leaves out disabled and deleted
// keys.
func (s *Store) CountExpiring(ctx context.Context, until []time.Time) ([]int64, error) {
	if len(until) == 0 {
		return nil, errors.New("no times are given to count keys by")
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	times := make([]time.Time, len(until))
	for i, t := range until {
		times[i] = pgvalue.Micro(t)
	}
	var counts []int64
	err := s.db.Row(ctx, `SELECT array_agg((SELECT count(*) FROM key WHERE `+usable+` AND expires_at <= u.at`+noTokens+`) ORDER BY u.n)
		FROM unnest($3::timestamptz[]) WITH ORDINALITY AS u (at, n)`,
		[]any{s.shift(), slices.MaxFunc(times, time.Time.Compare), times}, &counts)
	return counts, pgquery.Failure(ctx, err)
}
