package sqlitestore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// expiring selects the usable keys that expire between two times. It names the
// partial index. Otherwise SQLite would scan the whole table, because Keys needs the
// keys in the order of their creation, which is not the order of this index.
const expiring = `key INDEXED BY key_expiry
	WHERE disabled_at IS NULL AND deleted_at IS NULL AND expires_at > ? AND expires_at <= ?`

// Keys lists the keys that match the filter, in the order of their creation. It
// also returns the cursor of the next page, "" at the end.
func (s *Store) Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error) {
	last, err := ledger.Cursor(ctx, f.After, 0)
	if err != nil {
		return nil, "", err
	}
	query, args := selectKeys(f, s.now(), last)
	rows, err := s.readers.QueryContext(background(), query, args...)
	if err != nil {
		return nil, "", failure(err)
	}
	defer rows.Close()
	var list []keys.Key
	for rows.Next() {
		if len(list) == f.Size() {
			return list, strconv.FormatInt(last, 10), nil
		}
		k, n, err := scanKey(rows)
		if err != nil {
			return nil, "", failure(err)
		}
		list, last = append(list, k), n
	}
	return list, "", failure(rows.Err())
}

// selectKeys returns the query for one page of a list, and its arguments. The query
// reads one key more than the page has, to detect the end.
func selectKeys(f ledger.KeyFilter, now time.Time, after int64) (string, []any) {
	query, args := `SELECT n, `+keyColumns+` FROM key WHERE true`, []any(nil)
	if !f.ExpiresBy.IsZero() {
		query, args = `SELECT n, `+keyColumns+` FROM `+expiring, []any{micros(now), micros(f.ExpiresBy)}
	}
	query, args = query+` AND n > ?`, append(args, after)
	if f.Account != "" {
		query, args = query+` AND account = ?`, append(args, f.Account)
	}
	if f.Kind != "" {
		query, args = query+` AND kind = ?`, append(args, f.Kind)
	}
	return query + ` ORDER BY n LIMIT ?`, append(args, f.Size()+1)
}

// CountExpiring counts, for each time in the list until, the keys that are usable
// now and expire at that time or before. It reads a partial index up to the latest
// time.
func (s *Store) CountExpiring(ctx context.Context, until []time.Time) ([]int64, error) {
	if len(until) == 0 {
		return nil, errors.New("no times to count expiring keys by")
	}
	sums := make([]string, len(until))
	args := make([]any, len(until), len(until)+2)
	counts, into := make([]int64, len(until)), make([]any, len(until))
	last := until[0]
	for i, t := range until {
		sums[i], args[i], into[i] = `count(*) FILTER (WHERE expires_at <= ?)`, micros(t), &counts[i]
		if t.After(last) {
			last = t
		}
	}
	args = append(args, micros(s.now()), micros(last))
	query := `SELECT ` + strings.Join(sums, ", ") + ` FROM ` + expiring
	if err := s.readers.QueryRowContext(ctx, query, args...).Scan(into...); err != nil {
		return nil, failure(err)
	}
	return counts, nil
}
