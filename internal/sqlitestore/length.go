package sqlitestore

import "context"

// JournalLength returns the number of transactions in the journal, without the
// archived ones. Transactions are numbered without gaps, so JournalLength reads
// only the first and the last number.
func (s *Store) JournalLength(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var n int64
	err := s.readers.QueryRowContext(background(), selectLength).Scan(&n)
	return n, failure(err)
}

const selectLength = `SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM (SELECT (SELECT max(seq) FROM txn) AS seq UNION ALL SELECT (SELECT min(seq) FROM txn))`
