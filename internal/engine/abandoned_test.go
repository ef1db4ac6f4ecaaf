package engine

import (
	"fmt"
	"testing"
	"time"
)

// TestAbandonedCallsAreLimited checks that a key is refused after its tenth
// abandoned call within a minute. The refusal ends a minute after the first of the
// last ten calls. Other keys are not affected.
func TestAbandonedCallsAreLimited(t *testing.T) {
	now := time.Unix(1, 0)
	a := newAbandoned(func() time.Time { return now })
	for i := range maxAbandoned {
		if wait := a.Wait("key_1"); wait != 0 {
			t.Fatalf("refused for %v after %d calls", wait, i)
		}
		a.Note("key_1")
		now = now.Add(time.Second)
	}
	if wait := a.Wait("key_1"); wait != 50*time.Second {
		t.Errorf("refused for %v, want 50s", wait)
	}
	if wait := a.Wait("key_2"); wait != 0 {
		t.Errorf("another key is refused for %v", wait)
	}
	now = now.Add(50*time.Second - 1)
	if a.Wait("key_1") != 1 {
		t.Error("let in too early")
	}
	now = now.Add(1)
	if a.Wait("key_1") != 0 {
		t.Error("still refused when the first is a minute old")
	}
	a.Note("key_1") // a call that was already in flight while the key was refused
	if wait := a.Wait("key_1"); wait != time.Second {
		t.Errorf("refused for %v after one more, want 1s", wait)
	}
}

// TestAbandonedCallsBelowTheLimit checks that a key with fewer than ten abandoned
// calls per minute is never refused.
func TestAbandonedCallsBelowTheLimit(t *testing.T) {
	now := time.Unix(1, 0)
	a := newAbandoned(func() time.Time { return now })
	for range 1000 {
		a.Note("key_1")
		if wait := a.Wait("key_1"); wait != 0 {
			t.Fatalf("refused for %v", wait)
		}
		now = now.Add(abandonedWindow/(maxAbandoned-1) + 1)
	}
}

// TestAbandonedIsBounded checks that memory is bounded for any number of keys. A key
// that keeps abandoning calls is not forgotten.
func TestAbandonedIsBounded(t *testing.T) {
	a := newAbandoned(func() time.Time { return time.Unix(1, 0) })
	for range maxAbandoned {
		a.Note("key_1")
	}
	for i := range 5 * maxLineages {
		a.Note(fmt.Sprint(i))
		if i%(maxLineages/2) == 0 {
			a.Note("key_1")
		}
	}
	if n := a.times.Len(); n > 2*maxLineages {
		t.Errorf("%d keys are remembered", n)
	}
	if a.Wait("key_1") == 0 {
		t.Error("a key that goes on was forgotten")
	}
}
