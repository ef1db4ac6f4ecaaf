package id

import (
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestFirst: the result sorts between the ids that were made before the time and those
// that are made at it or later.
func TestFirst(t *testing.T) {
	made, now := New("key_"), clock.Now()
	if before, after := First("key_", now), First("key_", now.Add(time.Millisecond)); before > New("key_") || made >= after {
		t.Errorf("%s is not between %s and %s", made, before, after)
	}
}
