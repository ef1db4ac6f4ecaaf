//go:build unix

package pgstore

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// A Store can keep the request locks of an engine.
var _ engine.RequestLocks = (*Store)(nil)

// TestRequestLock lets many callers on several nodes lock one id at once. Exactly
// one caller gets the lock. No other caller gets it until the id is unlocked or the
// lock expires.
func TestRequestLock(t *testing.T) {
	one := fresh(t)
	nodes := []*Store{one, opened(t, one.o)}
	hash := ledger.HandleHash{1}
	race := func() int64 {
		var got atomic.Int64
		var callers sync.WaitGroup
		for i := range 16 {
			callers.Go(func() {
				ok, err := nodes[i%2].LockRequestID(t.Context(), hash, time.Hour)
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
		t.Errorf("%d callers have the lock", n)
	}
	if n := race(); n != 0 {
		t.Errorf("%d callers took a lock that was held", n)
	}
	if err := nodes[1].UnlockRequestID(t.Context(), hash, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 0 {
		t.Errorf("%d callers took a lock that lasts for another hour", n)
	}
	if err := nodes[1].UnlockRequestID(t.Context(), hash, 0); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 1 {
		t.Errorf("%d callers took an unlocked id", n)
	}
	if err := nodes[0].UnlockRequestID(t.Context(), hash, time.Microsecond); err != nil {
		t.Fatal(err)
	}
	if n := race(); n != 1 {
		t.Errorf("%d callers took a lock that had expired", n)
	}
	if err := one.db.Exec(t.Context(), `UPDATE request_lock SET until = clock_timestamp() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	if err := one.maintainOnce(true); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := one.db.Row(t.Context(), `SELECT count(*) FROM request_lock`, nil, &left); err != nil || left != 0 {
		t.Errorf("%d expired locks remain, %v", left, err)
	}
}
