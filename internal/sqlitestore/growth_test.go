package sqlitestore

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

var growthCharges = flag.Int("growth", 0, "how many charges TestGrowth makes; 0 for a few")

// What a store of years looks like: so many accounts, each with a key, spend at
// a few servers, evenly over so many days that end now.
const (
	growthPayers    = 1000
	growthProviders = 10
	growthTools     = 20
	growthDays      = 500
	growthRefunds   = 100 // one charge of so many is refunded
	growthFees      = 10  // one of so many pays a fee
	growthBatch     = 5000
)

// TestGrowth measures what charges leave behind: bytes, the time and memory of a
// start, of a verification and of a list, before and after the older ones were
// archived. Without -growth it is a check that a history is made which verifies.
func TestGrowth(t *testing.T) {
	charges := *growthCharges
	if charges == 0 {
		charges = 2000
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "farebox.db")
	began := clock.Now()
	s := opened(t, Options{Path: path})
	grow(t, s, charges)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d charges made in %v", charges, clock.Since(began).Round(time.Millisecond))
	s = measureGrowth(t, path, charges, "whole")
	defer s.Close()
}

// measureGrowth opens the store and tells what that, a verification and a list
// take.
func measureGrowth(t *testing.T, path string, charges int, what string) *Store {
	t.Helper()
	debug.FreeOSMemory()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	before, began := storetest.Resident(t), clock.Now()
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	opening := clock.Since(began)
	debug.FreeOSMemory()
	after := storetest.Resident(t)
	began = clock.Now()
	if _, _, err := s.Charges(t.Context(), ledger.ChargeFilter{}); err != nil {
		t.Fatal(err)
	}
	listing := clock.Since(began)
	began = clock.Now()
	v, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	verifying := clock.Since(began)
	for _, d := range v.Differences {
		t.Error(d)
	}
	t.Logf("%s: %d bytes (%.0f a charge); start %v, %+d KiB; list of 500 %v; verify %d transactions in %v, %+d KiB",
		what, info.Size(), float64(info.Size())/float64(charges), opening.Round(time.Millisecond), (after-before)>>10,
		listing.Round(100*time.Microsecond), v.Transactions, verifying.Round(time.Millisecond), (storetest.Resident(t)-after)>>10)
	return s
}

// grow makes so many charges as the writer would, many in a commit, at times
// that have passed.
func grow(t *testing.T, s *Store, charges int) {
	t.Helper()
	ctx := context.Background()
	accounts := make([]string, growthPayers+growthProviders)
	for i := range accounts {
		accounts[i] = newID("acct_")
		if err := s.CreateAccount(ctx, ledger.Account{ID: accounts[i], Name: fmt.Sprint("account-", i)}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		topUp(t, s, accounts[i], 1<<40)
	}
	keys := make([]string, growthPayers)
	for i := range keys {
		keys[i] = newID("key_")
	}
	random := rand.New(rand.NewPCG(1, uint64(charges)))
	end := clock.Now()
	for done := 0; done < charges; {
		n := min(growthBatch, charges-done)
		err := s.do(ctx, func(x *tx) error {
			for i := range n {
				at := end.Add(-growthDays * 24 * time.Hour).Add(time.Duration(done+i) * (growthDays * 24 * time.Hour / time.Duration(charges)))
				payer, provider := random.IntN(growthPayers), growthPayers+random.IntN(growthProviders)
				h := &hold{id: oldUUID(random, at), order: ledger.Order{
					Account: accounts[payer], Provider: accounts[provider], Key: keys[payer], Lineage: keys[payer],
					Server: fmt.Sprint("server-", provider), Tool: fmt.Sprint("tool_number_", random.IntN(growthTools)), Amount: 1000,
				}, day: ledger.Day(at)}
				h.payer, h.payee = s.books.byID[accounts[payer]], s.books.byID[accounts[provider]]
				if i%growthFees == 0 {
					h.order.Fee, h.order.FeeTo, h.feeTo = 25, accounts[growthPayers], s.books.byID[accounts[growthPayers]]
					if h.feeTo == h.payee {
						h.order.Fee, h.order.FeeTo, h.feeTo = 0, "", nil
					}
				}
				r := rowOf(h, at.UnixMicro())
				if err := x.insertCharge(h, &r); err != nil {
					return err
				}
				if i%growthRefunds == 0 {
					if _, err := x.refund(&r, ledger.Transaction{Reason: "not what was asked for"}, oldUUID(random, at), at); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		done += n
	}
}

// oldUUID is a UUIDv7 of that time.
func oldUUID(random *rand.Rand, at time.Time) (u uuid) {
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16|0x7000|random.Uint64()&0xfff)
	binary.BigEndian.PutUint64(u[8:], random.Uint64()>>2|1<<63)
	return u
}
