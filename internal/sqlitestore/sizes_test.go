package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestSizes checks that the sizes of a store change with its contents.
func TestSizes(t *testing.T) {
	s := fresh(t)
	order := pair(t, s, 100)
	before, err := s.Sizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, _, err := s.Charge(t.Context(), newID("chg_"), order, ledger.Terms{Idempotency: ledger.Idempotency{Key: newID("")}}, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	after, err := s.Sizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int64{"accounts": 0, "keys": 0, "transactions": 5, "idempotency_keys": 5, "audit": 0, "call_records": 0} {
		if got := after.Rows[table] - before.Rows[table]; got != want {
			t.Errorf("%s grew by %d, want %d", table, got, want)
		}
	}
	if after.Bytes["database"] == 0 || after.Bytes["wal"] <= before.Bytes["wal"] || after.Disk == 0 || after.DiskFree > after.Disk {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if length, limit := s.Queue(); length != 0 || limit != maxQueue {
		t.Errorf("queue %d of %d", length, limit)
	}
}

// TestCommitsAreReported checks that each transaction is reported with the number of
// captures in it, and that a refused change is not reported as a failure.
func TestCommitsAreReported(t *testing.T) {
	commits, rows := 0, 0
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Committed: func(n int, took time.Duration, err error) {
		if err != nil || took <= 0 {
			t.Errorf("a transaction of %d took %v: %v", n, took, err)
		}
		commits, rows = commits+1, rows+n
	}})
	order := pair(t, s, 100)
	written := rows
	if err := s.CreateAccount(context.Background(), ledger.Account{ID: order.Account, Name: "again", CreatedAt: clock.Now()}, ledger.Audit{Actor: "test", Action: "x", Target: "x", At: clock.Now()}); err == nil || errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("an account was made twice: %v", err)
	}
	for range 3 {
		if _, _, err := s.Charge(t.Context(), newID("chg_"), order, ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // Close waits until the writer has reported all transactions
		t.Fatal(err)
	}
	if rows-written < 3 || commits > rows {
		t.Errorf("%d rows in %d commits, %d before the charges", rows, commits, written)
	}
}
