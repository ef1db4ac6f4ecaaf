package sqlitestore

import (
	"fmt"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// BenchmarkSumUsage measures the cost of SumUsage per charge. Each step sums up 5,000
// new charges. In the case "shared", 20 accounts pay all of them. In the case "apart",
// each charge is paid by an account of its own.
func BenchmarkSumUsage(b *testing.B) {
	const between = 5000
	for _, of := range []struct {
		name     string
		accounts int
	}{{"shared", 20}, {"apart", between}} {
		b.Run(of.name, func(b *testing.B) {
			s, err := Open(b.Context(), Options{Path: b.TempDir() + "/farebox.db"})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for i := range of.accounts + 1 {
				a := ledger.Account{ID: newID("acct_"), Name: fmt.Sprint("account-", i)}
				if err := s.CreateAccount(b.Context(), a, ledger.Audit{}); err != nil {
					b.Fatal(err)
				}
			}
			done := 0
			for b.Loop() {
				if done++; done%between != 0 {
					continue
				}
				b.StopTimer()
				chargeMany(b, s, between, of.accounts)
				b.StartTimer()
				for more := true; more; {
					p, err := s.SumUsage(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					more = p.More
				}
			}
		})
	}
}

// chargeMany writes n charges, paid by the accounts in turn.
func chargeMany(b *testing.B, s *Store, n, accounts int) {
	b.Helper()
	err := s.do(b.Context(), func(x *tx) error {
		for i := range n {
			r := row{
				id: newUUID(), kind: rowCharge, debtor: 3 + int64(i%accounts), creditor: 2, amount: 1000, at: s.now().UnixMicro(), day: ledger.Day(s.now()),
				key: fmt.Sprint("key_", i%accounts), lineage: fmt.Sprint("key_", i%accounts), server: "weather", tool: fmt.Sprint("tool_", i%10),
			}
			if err := x.insert(&r, s.books.numbered[r.debtor], s.books.numbered[2]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
