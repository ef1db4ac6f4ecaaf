//go:build unix

package pgstore

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestSizes checks that Sizes returns the sizes and the counts of rows of a store as
// soon as the database has estimated the counts. It also checks that a node is counted
// as long as its lease lasts.
func TestSizes(t *testing.T) {
	s := fresh(t)
	payer := account(t, s, "payer", 100)
	for range 5 {
		if _, _, err := s.Charge(t.Context(), newID("chg_"), order(payer, payer, 1), ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.pool.Exec(t.Context(), `ANALYZE txn, account`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Follow(t.Context(), "a", -1, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Follow(t.Context(), "b", -1, 0); err != nil {
		t.Fatal(err)
	}
	z, err := s.Sizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if z.Rows["transactions"] != 6 || z.Rows["accounts"] < 1 || z.Bytes["tables"] == 0 || z.Bytes["indexes"] == 0 || z.Nodes != 1 {
		t.Errorf("sizes %+v", z)
	}
	if inUse, idle, limit, _ := s.Connections(); inUse != 0 || idle < 1 || limit != DefaultMaxConns {
		t.Errorf("%d connections in use, %d idle, at most %d", inUse, idle, limit)
	}
}

// TestBatchesAreReported checks that each batch is reported with the number of
// operations in it.
func TestBatchesAreReported(t *testing.T) {
	var batches, rows atomic.Int64
	s := opened(t, Options{DSN: cluster.Database(t, template), Committed: func(n int, took time.Duration, err error) {
		if err != nil || took <= 0 {
			t.Errorf("a batch of %d took %v: %v", n, took, err)
		}
		batches.Add(1)
		rows.Add(int64(n))
	}})
	payer := account(t, s, "payer", 100)
	if _, _, err := s.Charge(t.Context(), newID("chg_"), order(payer, payer, 1), ledger.Terms{}, nil); err != nil {
		t.Fatal(err)
	}
	if batches.Load() != 1 || rows.Load() != 1 {
		t.Errorf("%d operations in %d batches, want one charge", rows.Load(), batches.Load())
	}
}
