package sqlitestore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// expiring selects the usable keys that expire between two times. It names the partial
// index. Otherwise SQLite would scan the whole table: Keys needs the keys in the
// order of their creation, which is not the order of this index.
const expiring = `key INDEXED BY key_expiry
	WHERE disabled_at IS NULL AND deleted_at IS NULL AND expires_at > ? AND expires_at <= ?`

// noTokens leaves out the tokens of OAuth clients.
const noTokens = ` AND kind NOT IN ('access', 'refresh')`

// Keys lists the keys that match the filter, by default in the order of their creation. It
// also returns the cursor of the next page, "" at the end.
func (s *Store) Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error) {
	if err := f.Sort.OneOf(ledger.ByCreation, ledger.ByCreationDown, ledger.ByName, ledger.ByNameDown); err != nil {
		return nil, "", err
	}
	last, err := f.Position(ctx, 0)
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
			return list, f.CursorAt(last), nil
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
	if f.Account != "" {
		query, args = query+` AND account = ?`, append(args, f.Account)
	}
	if f.Kind != "" {
		query, args = query+` AND kind = ?`, append(args, f.Kind)
	} else {
		query += noTokens
	}
	order, compare := orders[f.Sort], ">"
	if f.Sort.Down() {
		compare = "<"
	}
	switch {
	case after != 0 && order.byName:
		// SQLite would not search the index for a comparison of pairs.
		const before = ` (SELECT name FROM key WHERE n = ?)`
		query += ` AND name COLLATE NOCASE ` + compare + `=` + before + ` AND (name COLLATE NOCASE ` + compare + before + ` OR n ` + compare + ` ?)`
		args = append(args, after, after, after)
	case after != 0:
		query, args = query+` AND n `+compare+` ?`, append(args, after)
	}
	return query + ` ORDER BY ` + order.by + ` LIMIT ?`, append(args, f.Size()+1)
}

// orders are the orders of a list of keys.
var orders = map[ledger.Sort]struct {
	by     string
	byName bool
}{
	"": {"n", false}, ledger.ByCreation: {"n", false}, ledger.ByCreationDown: {"n DESC", false},
	ledger.ByName: {"name COLLATE NOCASE, n", true}, ledger.ByNameDown: {"name COLLATE NOCASE DESC, n DESC", true},
}

// CountExpiring counts, for each of the given times, the keys that are usable now and
// expire at that time or before. It reads a partial index up to the latest of the
// times.
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
	query := `SELECT ` + strings.Join(sums, ", ") + ` FROM ` + expiring + noTokens
	if err := s.readers.QueryRowContext(ctx, query, args...).Scan(into...); err != nil {
		return nil, failure(err)
	}
	return counts, nil
}
