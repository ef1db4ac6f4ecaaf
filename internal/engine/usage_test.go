package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestUsesInABatchAreBounded checks that a batch of key uses never exceeds maxUsed,
// even if many goroutines record the last ones at the same time.
func TestUsesInABatchAreBounded(t *testing.T) {
	u, now := &usage{seen: make(map[string]time.Time)}, clock.Now()
	for i := range maxUsed - 1 {
		u.note(fmt.Sprint("key_", i), now)
	}
	for range 100 {
		var begun, noting sync.WaitGroup
		u.mu.Lock() // held until all goroutines have begun, so that they all find room in the batch at the same time
		for i := range 8 {
			begun.Add(1)
			noting.Go(func() {
				begun.Done()
				u.note(fmt.Sprint("key_late_", i), now)
			})
		}
		begun.Wait()
		u.mu.Unlock()
		noting.Wait()
		if n := len(u.seen); n != maxUsed {
			t.Fatalf("%d uses in a batch of %d", n, maxUsed)
		}
		for i := range 8 {
			delete(u.seen, fmt.Sprint("key_late_", i))
		}
	}
}
