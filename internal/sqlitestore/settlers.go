package sqlitestore

import "maps"

// settlers are the numbers of those who may settle charges, by lineage. Only the
// writer touches them: readers ask the file. They are as many as keys of
// gateways and providers.
type settlers map[string]int64

// settler returns the number of a lineage, 0 for none. A new one is written with
// the transaction, and remembered once that is committed.
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
