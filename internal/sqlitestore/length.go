package sqlitestore

import "context"

// JournalLength returns how many transactions the journal has. They are
// numbered without a gap, so it costs no more than finding the last one.
func (s *Store) JournalLength(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var n int64
	err := s.readers.QueryRowContext(background(), `SELECT coalesce(max(seq), 0) FROM txn`).Scan(&n)
	return n, failure(err)
}
