package sqlitestore

import (
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestBusy checks that Busy grows while a write hangs, and returns 0 after the write
// has ended.
func TestBusy(t *testing.T) {
	s := fresh(t)
	await := func(state string, reached func() bool) {
		t.Helper()
		for until := clock.Now().Add(10 * flushEvery); !reached(); {
			if clock.Now().After(until) {
				t.Fatalf("busy for %s; want it %s", s.Busy(), state)
			}
			<-time.After(time.Millisecond)
		}
	}
	resume := paused(t, s)
	first := s.Busy()
	await("longer", func() bool { return s.Busy() > first })
	resume()
	await("idle", func() bool { return s.Busy() == 0 })
}
