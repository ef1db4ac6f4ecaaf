package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// usable are the keys that can be used at the time $1; there is an index of those
// that expire.
const usable = `expires_at IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL AND expires_at > moved_clock($1)`

// Keys lists the keys that the filter chooses, in the order of their creation and
// by default with the deleted ones. The database's clock tells which can be used
// now. The text is the cursor of the next part, "" at the end.
func (s *Store) Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error) {
	after, err := cursor(ctx, f.After, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	query := selectKey + `WHERE n > $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR kind = $4) AND ($1::bigint IS NOT NULL) ORDER BY n LIMIT $5`
	args := []any{s.shift(), after, pack(f.Account), f.Kind, f.Size() + 1}
	if !f.ExpiresBy.IsZero() {
		query = selectKey + `WHERE n > $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR kind = $4) AND expires_at <= $6 AND ` + usable + ` ORDER BY n LIMIT $5`
		args = append(args, f.ExpiresBy)
	}
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

// CountExpiring counts, for each of the times, the keys that can be used now and
// expire at that time or before.
func (s *Store) CountExpiring(ctx context.Context, until []time.Time) ([]int64, error) {
	if len(until) == 0 {
		return nil, errors.New("no times are given to count keys by")
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.query(ctx, `SELECT count(k.n) FROM unnest($2::timestamptz[]) WITH ORDINALITY AS u(until, i)
		LEFT JOIN key k ON k.expires_at <= u.until AND `+usable+` GROUP BY u.i ORDER BY u.i`, s.shift(), until)
	if err != nil {
		return nil, failure(ctx, err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return counts, failure(ctx, err)
}
