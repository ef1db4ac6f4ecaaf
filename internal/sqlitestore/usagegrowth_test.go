package sqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// TestUsageGrowth measures reports over a year of charges. With -growth 1000000, each
// must take less than 100 ms. Without this flag, the history is short, and the test
// only checks that reports succeed and that the sums agree with the journal.
func TestUsageGrowth(t *testing.T) {
	charges, limit := *growthCharges, 100*time.Millisecond
	if charges == 0 {
		charges, limit = 2000, 0
	}
	path := filepath.Join(t.TempDir(), "farebox.db")
	s := opened(t, Options{Path: path})
	h := storetest.UsageYear(charges, clock.Now())
	accounts, provider := growUsage(t, s, &h)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	began, steps, longest := clock.Now(), 0, time.Duration(0)
	for {
		step := clock.Now()
		p, err := s.SumUsage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		steps, longest = steps+1, max(longest, clock.Since(step))
		if !p.More {
			break
		}
	}
	took := clock.Since(began)
	t.Logf("%d charges summed up in %v (%v each), %d steps, the longest %v", charges, took.Round(time.Millisecond), (took / time.Duration(charges)).Round(100*time.Nanosecond), steps, longest)
	storetest.MeasureUsage(t, s, h, accounts, provider, limit)
	began = clock.Now()
	v, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Differences {
		t.Error(d)
	}
	t.Logf("verified in %v", clock.Since(began).Round(time.Millisecond))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the file has %d bytes, and had %d before its charges were summed up (%d a charge)", after.Size(), before.Size(), (after.Size()-before.Size())/int64(charges))
}

// growUsage writes the charges of a history. It returns the ids of the payers and of
// the provider.
func growUsage(t *testing.T, s *Store, h *storetest.UsageHistory) (payers []string, provider string) {
	t.Helper()
	ctx := context.Background()
	for i := range h.Accounts + 1 {
		a := ledger.Account{ID: newID("acct_"), Name: fmt.Sprint("account-", i), CreditLimit: 1 << 40}
		if err := s.CreateAccount(ctx, a, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		payers = append(payers, a.ID)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for done := 0; done < h.Charges; done += growthBatch {
		err := s.do(ctx, func(x *tx) error {
			for i := done; i < min(done+growthBatch, h.Charges); i++ {
				key, at := h.Key(i), h.At(i)
				r := row{
					id: oldUUID(random, at), kind: rowCharge, debtor: 3 + int64(h.Account(key)), creditor: 2, amount: 1000, at: at.UnixMicro(), day: ledger.Day(at),
					key: h.KeyID(key), lineage: h.KeyID(key), server: h.Server(i), tool: h.Tool(i),
				}
				if err := x.insert(&r, s.books.numbered[r.debtor], s.books.numbered[2]); err != nil {
					return err
				}
				x.spends = append(x.spends, spendOf(&r, nil))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return payers[1:], payers[0]
}
