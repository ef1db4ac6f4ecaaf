package sqlitestore

import (
	"path/filepath"
	"testing"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/callstore"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// BenchmarkCallsPage measures pages of 50 records among a million, with the filters of
// the console: no filter, an account, and a key. It also measures the worst case: a
// filter that has no index and matches no record.
func BenchmarkCallsPage(b *testing.B) {
	s, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "farebox.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	const records = 1_000_000
	before := pages(b, s)
	err = s.do(b.Context(), func(t *tx) error {
		_, err := t.exec(`WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?)
			INSERT INTO call_record (at, account, key_id, server, method, tool, outcome, code, test, price, status, duration, trace)
			SELECT n * 1000000, printf('acct_0190b3c0-%04d-7000-8000-000000000000', n % 500), printf('key_0190b3c0-%04d-7000-8000-000000000000', n % 2000),
				'weather', 'tools/call', printf('tool_%d', n % 20), 'refused', 'INSUFFICIENT_BALANCE', 0, 10000, 200, 150, '' FROM i`, records)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("a record takes %d bytes", (pages(b, s)-before)/records)
	calls := callstore.New(s)
	for name, f := range map[string]callrecord.Filter{
		"all":       {},
		"account":   {Account: "acct_0190b3c0-0007-7000-8000-000000000000"},
		"key":       {Key: "key_0190b3c0-0007-7000-8000-000000000000"},
		"deep":      {Account: "acct_0190b3c0-0007-7000-8000-000000000000", Page: ledger.Page{After: "500000000000.9223372036854775807"}},
		"unmatched": {Tool: "none"},
	} {
		f.Limit = 50
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				list, _, err := calls.Calls(b.Context(), &f)
				if err != nil || len(list) != 50 && name != "unmatched" {
					b.Fatal(len(list), err)
				}
			}
		})
	}
	b.Run("sweep", func(b *testing.B) {
		for b.Loop() {
			if n, err := calls.Sweep(b.Context(), fromMicros(0), 1, 500); err != nil || n != 500 {
				b.Fatal(n, err)
			}
		}
	})
}

// pages returns the size of the database in bytes.
func pages(b *testing.B, s *Store) (size int64) {
	b.Helper()
	if err := s.readers.QueryRowContext(b.Context(), `SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)`).Scan(&size); err != nil {
		b.Fatal(err)
	}
	return size
}
