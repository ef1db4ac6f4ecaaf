package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// usable is the condition for keys that are neither disabled nor deleted, and expire
// between now and $2. $1 is the shift of the clock.
const usable = `disabled_at IS NULL AND deleted_at IS NULL AND expires_at > (SELECT moved_clock($1)) AND expires_at <= $2`

// Keys lists the keys that pass the filter, in the order of creation. It also
// returns the cursor of the next page, "" at the end.
func (s *Store) Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error) {
	after, err := ledger.Cursor(ctx, f.After, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	query, args := s.selectKeys(&f, after)
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	found, next := part(found, f.Page, func(k *keyRow) int64 { return k.n })
	var list []keys.Key
	for _, k := range found {
		list = append(list, k.Key)
	}
	return list, next, nil
}

// selectKeys returns the query for one page of keys, and its arguments. The query asks
// for one key more than the page holds, to find out whether another page follows.
func (s *Store) selectKeys(f *ledger.KeyFilter, after int64) (string, []any) {
	query, args := selectKey+`WHERE true`, []any(nil)
	if !f.ExpiresBy.IsZero() {
		query, args = selectKey+`WHERE `+usable, []any{s.shift(), pgvalue.Micro(f.ExpiresBy)}
	}
	and := func(condition string, arg any) {
		args = append(args, arg)
		query += fmt.Sprintf(condition, len(args))
	}
	and(` AND n > $%d`, after)
	if f.Account != "" {
		and(` AND account = $%d`, pgvalue.Pack(f.Account))
	}
	if f.Kind != "" {
		and(` AND kind = $%d`, pgvalue.Pack(f.Kind))
	}
	and(` ORDER BY n LIMIT $%d`, f.Size()+1)
	return query, args
}

// CountExpiring counts the usable keys that expire by each time in the list until.
// It reads only a range of an index, which leaves out disabled and deleted keys.
func (s *Store) CountExpiring(ctx context.Context, until []time.Time) ([]int64, error) {
	if len(until) == 0 {
		return nil, errors.New("no times are given to count keys by")
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	times := make([]time.Time, len(until))
	for i, t := range until {
		times[i] = pgvalue.Micro(t)
	}
	var counts []int64
	err := s.row(ctx, `SELECT array_agg((SELECT count(*) FROM key WHERE `+usable+` AND expires_at <= u.at) ORDER BY u.n)
		FROM unnest($3::timestamptz[]) WITH ORDINALITY AS u (at, n)`,
		[]any{s.shift(), slices.MaxFunc(times, time.Time.Compare), times}, &counts)
	return counts, failure(ctx, err)
}
