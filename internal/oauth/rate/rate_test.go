package rate

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestTake: a name gets its burst at once and then one event in each interval; the wait that
// a refusal returns is exact; other names are not affected.
func TestTake(t *testing.T) {
	l, now := New(time.Second, 3), clock.Now()
	take := func(name string, want time.Duration) {
		t.Helper()
		if wait := l.Take(name, now); wait != want {
			t.Errorf("%s: wait %v, want %v", name, wait, want)
		}
	}
	for range 3 {
		take("a", 0)
	}
	take("a", time.Second)
	take("b", 0)
	now = now.Add(time.Second - 1)
	take("a", 1)
	now = now.Add(1)
	take("a", 0)
	take("a", time.Second)
	now = now.Add(time.Hour)
	for range 3 {
		take("a", 0)
	}
	take("a", time.Second)
	now = now.Add(-24 * time.Hour) // no name is locked out by a clock that was set back
	take("a", time.Second)
	now = now.Add(time.Second)
	take("a", 0)
}

// TestConcurrentTakes: a burst is not exceeded by events at the same time.
func TestConcurrentTakes(t *testing.T) {
	l, now := New(time.Second, 100), clock.Now()
	var admitted atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				if l.Take("a", now) == 0 {
					admitted.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d events", n)
	}
}

// TestMemory: a flood of names does not grow the memory without bound.
func TestMemory(t *testing.T) {
	l, now := New(time.Second, 1), clock.Now()
	for i := range 5 * remembered {
		l.Take(fmt.Sprint(i), now)
	}
	if n := l.next.Len(); n > 2*remembered {
		t.Errorf("%d names", n)
	}
}
