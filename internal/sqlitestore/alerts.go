package sqlitestore

import (
	"context"
	"encoding/json"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	selectMoved = `SELECT seq, kind, test, debtor, creditor, coalesce(key, ''), coalesce(lineage, key, ''), coalesce(server, ''), coalesce(tool, ''), waived IS NULL
	FROM txn WHERE seq > ? ORDER BY seq LIMIT ?`
	selectKeysByID = selectKey + `WHERE id IN (SELECT value FROM json_each(?))`
)

// Moved summarizes the transactions after the given one, at most limit of them.
func (s *Store) Moved(ctx context.Context, after int64, limit int) (m ledger.Moved, err error) {
	if err := ctx.Err(); err != nil {
		return m, err
	}
	rows, err := s.readers.QueryContext(background(), selectMoved, after, limit)
	if err != nil {
		return m, failure(err)
	}
	defer rows.Close()
	c := ledger.NewMoves(after)
	count := 0
	for rows.Next() {
		var t ledger.Move
		var kind, debtor, creditor int64
		var test bool
		if err := rows.Scan(&t.Seq, &kind, &test, &debtor, &creditor, &t.Key, &t.Lineage, &t.Server, &t.Tool, &t.Paid); err != nil {
			return m, failure(err)
		}
		t.Charge = kind == rowCharge
		if count++; !test {
			t.Debtor, t.Creditor = s.accountIDs(debtor, creditor)
		}
		c.Add(&t)
	}
	m = c.Moved()
	m.More = count == limit
	return m, failure(rows.Err())
}

// accountIDs returns the ids of the accounts with the given numbers. For a system
// account it returns "".
func (s *Store) accountIDs(debtor, creditor int64) (first, second string) {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.number(debtor); a != nil && !a.system() {
		first = a.id
	}
	if a := b.number(creditor); a != nil && !a.system() {
		second = a.id
	}
	return first, second
}

// LiveBalances returns a map of account ids to live balances. It leaves out unknown
// ids.
func (s *Store) LiveBalances(ctx context.Context, ids []string) (map[string]ledger.Balance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := make(map[string]ledger.Balance, len(ids))
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	for _, id := range ids {
		if a := b.byID[id]; a != nil {
			found[id] = a.balances[balanceIndex(false)]
		}
	}
	return found, nil
}

// KeysByID returns the keys with the given ids. It leaves out unknown ids.
func (s *Store) KeysByID(ctx context.Context, ids []string) (found []keys.Key, err error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, err
	}
	names, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.readers.QueryContext(background(), selectKeysByID, string(names))
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		k, _, err := scanKey(rows)
		if err != nil {
			return nil, failure(err)
		}
		found = append(found, k)
	}
	return found, failure(rows.Err())
}

// LiveSpent returns the current spending of each of the given lineages, in the same
// order. It also returns the day to which this spending belongs.
func (s *Store) LiveSpent(ctx context.Context, lineages []ledger.Lineage) ([]ledger.Spent, int32, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	all := make([]ledger.Spent, len(lineages))
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	day := b.today(s.now())
	for i, l := range lineages {
		k := counterKey{of: ofLineage, name: l.Lineage}
		m := b.counters[k]
		if m == nil {
			m = b.loaded[k.subject()]
		}
		if m != nil {
			all[i].Day, all[i].Month = m.spent(day)
		}
	}
	return all, day, nil
}
