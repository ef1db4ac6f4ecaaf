package sqlitestore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Sizes measures the store: the files "database" and "wal", the rows of the tables that
// grow, and the file system. It does not block the writer, and takes a few milliseconds
// for 100,000 keys.
func (s *Store) Sizes(ctx context.Context) (ledger.Sizes, error) {
	z := ledger.Sizes{Bytes: map[string]int64{}, Rows: map[string]int64{}}
	for part, suffix := range map[string]string{"database": "", "wal": "-wal"} {
		info, err := os.Stat(s.path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			z.Bytes[part] = 0
		case err != nil:
			return ledger.Sizes{}, err
		default:
			z.Bytes[part] = info.Size()
		}
	}
	// The numbers in the tables txn, audit and call_record have no gaps. So the first
	// and the last number give the count of rows, which would otherwise need a scan of
	// the table.
	for table, query := range map[string]string{
		"accounts":     `SELECT count(*) FROM account`,
		"keys":         `SELECT count(*) FROM key`,
		"transactions": `SELECT coalesce((SELECT max(seq) FROM txn) - (SELECT min(seq) FROM txn) + 1, 0)`,
		"call_records": `SELECT coalesce((SELECT max(n) FROM call_record) - (SELECT min(n) FROM call_record) + 1, 0)`,
		"audit":        `SELECT coalesce((SELECT max(n) FROM audit) - (SELECT min(n) FROM audit) + 1, 0)`,
	} {
		var n int64
		if err := s.readers.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return ledger.Sizes{}, failure(err)
		}
		z.Rows[table] = n
	}
	s.books.mu.Lock()
	z.Rows["idempotency_keys"] = int64(len(s.books.idempotencyKeys))
	s.books.mu.Unlock()
	var err error
	z.DiskFree, z.Disk, err = diskSpace(filepath.Dir(s.path))
	return z, err
}
