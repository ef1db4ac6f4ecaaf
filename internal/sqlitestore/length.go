package sqlitestore

import "context"

// JournalLength returns how many transactions the journal has, without those
// that were archived. They are numbered without a gap, so it costs no more than
// finding the last one.
func (s *Store) JournalLength(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var n int64
	err := s.readers.QueryRowContext(background(), selectLength).Scan(&n)
	return n, failure(err)
}

const selectLength = `SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM (SELECT (SELECT max(seq) FROM txn) AS seq UNION ALL SELECT (SELECT min(seq) FROM txn))`
