package sqlitestore

import "maps"

// settlers maps lineages of keys to the numbers that stand for them in the journal. It
// has the lineages of the gateways and providers that settle charges through a
// platform. Only the writer uses the map. Queries that read join the table settler
// instead.
type settlers map[string]int64

// settlerNumber returns the number of a lineage, or 0 for "". It writes a new
// lineage in the transaction, and adds it to the writer's map after the transaction
// is committed.
func (t *tx) settlerNumber(lineage string) (int64, error) {
	if lineage == "" {
		return 0, nil
	}
	if n := t.w.settlers[lineage]; n != 0 {
		return n, nil
	}
	if n := t.settlers[lineage]; n != 0 {
		return n, nil
	}
	var n int64
	err := t.queryRow(`INSERT INTO settler (lineage) VALUES (?) ON CONFLICT (lineage) DO UPDATE SET lineage = excluded.lineage RETURNING n`, lineage).Scan(&n)
	if err != nil {
		return 0, err
	}
	if t.settlers == nil {
		t.settlers = make(settlers)
		t.after = append(t.after, func() { maps.Copy(t.w.settlers, t.settlers) })
	}
	t.settlers[lineage] = n
	return n, nil
}
