package pgstore

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// One of all who take a mark at once gets it, at whichever node, and nobody else
// until it is given back or has ended.
func TestClaim(t *testing.T) {
	one := fresh(t)
	nodes := []*Store{one, opened(t, one.o)}
	mark := ledger.HandleHash{1}
	race := func() int64 {
		var got atomic.Int64
		var callers sync.WaitGroup
		for i := range 16 {
			callers.Go(func() {
				ok, err := nodes[i%2].LockRequestID(t.Context(), mark, time.Hour)
				if err != nil {
					t.Error(err)
				}
				if ok {
					got.Add(1)
				}
			})
		}
		callers.Wait()
		return got.Load()
	}
	if n := race(); n != 1 {
		t.Errorf("%d have the mark", n)
	}
	if n := race(); n != 0 {
		t.Errorf("%d took a mark that was taken", n)
	}
	if err := nodes[1].UnlockRequestID(t.Context(), mark, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 0 {
		t.Errorf("%d took a mark that is kept", n)
	}
	if err := nodes[1].UnlockRequestID(t.Context(), mark, 0); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 1 {
		t.Errorf("%d took a mark that was given back", n)
	}
	if err := nodes[0].UnlockRequestID(t.Context(), mark, time.Microsecond); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 1 {
		t.Errorf("%d took a mark that has ended", n)
	}
	if err := one.exec(t.Context(), `UPDATE claim SET until = clock_timestamp() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	if err := one.tidyOnce(true); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := one.row(t.Context(), `SELECT count(*) FROM claim`, nil, &left); err != nil || left != 0 {
		t.Errorf("%d claims that have ended are kept, %v", left, err)
	}
}
