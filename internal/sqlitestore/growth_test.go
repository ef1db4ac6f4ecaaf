package sqlitestore

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

var (
	growthCharges = flag.Int("growth", 0, "how many charges TestGrowth makes; 0 for a few")
	growthStore   = flag.String("growth-store", "", "a store that TestGrowth measures instead of making one; nobody may have it open")
	growthStart   = flag.Bool("growth-start", false, "TestGrowth measures no more than the size, a start and a list")
)

// The history of a store that is years old: each account has one key and spends at
// a few servers, evenly over the last growthDays days.
const (
	growthPayers = 1000
	growthDays   = 500
	growthBatch  = 100_000 // the number of charges that one commit writes
)

// TestGrowth measures the cost of a long history before archiving, and again after
// it. It logs the size of the file, the time and memory of a start and of a
// verification, and the time of a list. Without -growth, it only checks that a short
// history verifies.
func TestGrowth(t *testing.T) {
	charges := *growthCharges
	if charges == 0 {
		charges = 2000
	}
	if *growthStore != "" {
		if err := measureGrowth(t, *growthStore, charges, *growthStore).Close(); err != nil {
			t.Fatal(err)
		}
		return
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
	if !*growthStart {
		archiveGrown(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = measureGrowth(t, path, charges, "archived")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// archiveGrown archives the transactions that are old enough, and logs how long their
// removal from the store blocked captures.
func archiveGrown(t *testing.T, s *Store) {
	t.Helper()
	signer := ledger.NewSigner([ed25519.SeedSize]byte{1})
	var longest, taking time.Duration
	var bytes int64
	began := clock.Now()
	for {
		p, err := s.ArchivePart(t.Context(), ledger.ArchiveQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Entries) == 0 {
			break
		}
		file, err := os.Create(filepath.Join(t.TempDir(), ledger.ArchiveName(p.Number)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = archive.Write(file, &p, signer); err == nil {
			err = file.Sync()
		}
		info, _ := file.Stat()
		bytes += info.Size()
		sum, summed := archive.Sum(&p)
		if err := errors.Join(err, file.Close(), summed); err != nil {
			t.Fatal(err)
		}
		start := clock.Now()
		if err := s.Archive(t.Context(), &p, sum, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		longest, taking = max(longest, clock.Since(start)), taking+clock.Since(start)
	}
	a, err := s.Archived(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("archived %d transactions in %v to %d files of %d bytes (%.0f a charge); the writer was held for %v in all, %v at most",
		a.Transactions, clock.Since(began).Round(time.Millisecond), a.Files, bytes, float64(bytes)/float64(max(a.Charges, 1)),
		taking.Round(time.Millisecond), longest.Round(time.Millisecond))
}

// measureGrowth opens the store and logs the cost of opening, verifying and
// listing.
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
	var v ledger.Verification
	if !*growthStart {
		if v, err = s.Verify(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
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

// growthRow returns charge number i, counted from 1, as the writer would have
// written it. Account 2 is the provider, and the payers are the accounts from 3 on.
func growthRow(random *rand.Rand, i, charges int, begin time.Time) row {
	payer := int64(i % growthPayers)
	at := begin.Add(time.Duration(i) * (growthDays * 24 * time.Hour / time.Duration(charges)))
	r := row{
		id: oldUUID(random, at), kind: rowCharge, debtor: 3 + payer, creditor: 2, amount: 1000, at: at.UnixMicro(), day: ledger.Day(at),
		key: fmt.Sprintf("key_0190b7a2-5b1c-7d3e-8f40-%012d", payer), server: fmt.Sprint("server-", i%10), tool: fmt.Sprint("tool_number_", i%20),
	}
	r.lineage = r.key
	return r
}

// grow makes the given number of charges by growthPayers accounts, evenly over the
// last growthDays days. It writes the rows and snapshots that the writer would have
// written.
func grow(t *testing.T, s *Store, charges int) {
	t.Helper()
	ctx := context.Background()
	for i := range growthPayers + 1 {
		a := ledger.Account{ID: newID("acct_"), Name: fmt.Sprint("account-", i), CreditLimit: 1 << 40}
		if err := s.CreateAccount(ctx, a, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	random, begin := rand.New(rand.NewPCG(1, 1)), clock.Now().Add(-growthDays*24*time.Hour)
	for done := 0; done < charges; done += growthBatch {
		err := s.do(ctx, func(x *tx) error {
			for i := done + 1; i <= min(done+growthBatch, charges); i++ {
				r := growthRow(random, i, charges, begin)
				debtor, creditor := s.books.numbered[r.debtor], s.books.numbered[2]
				if err := x.insert(&r, debtor, creditor); err != nil {
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
}

// oldUUID returns a UUIDv7 with the given time.
func oldUUID(random *rand.Rand, at time.Time) (u uuid) {
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16|0x7000|random.Uint64()&0xfff)
	binary.BigEndian.PutUint64(u[8:], random.Uint64()>>2|1<<63)
	return u
}
