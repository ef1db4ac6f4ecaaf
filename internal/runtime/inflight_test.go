package runtime

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestRequestIDs: an id is under way once in a session; one whose stream may be
// resumed is not used again for as long as the session is in use, and other
// sessions have ids of their own.
func TestRequestIDs(t *testing.T) {
	now := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	r := newRequests(func() time.Time { return now })
	for _, name := range []string{"a", "b"} {
		if err := r.claim(name, "1"); err != nil {
			t.Fatal(err)
		}
		if err := r.claim(name, "1"); !errors.Is(err, ErrIDTaken) {
			t.Fatalf("a second request: %v", err)
		}
	}
	r.release("a", "1", false)
	r.release("b", "1", true)
	if err := r.claim("a", "1"); err != nil {
		t.Errorf("after its end: %v", err)
	}
	if err := r.claim("b", "1"); !errors.Is(err, ErrIDTaken) {
		t.Errorf("while its stream may be resumed: %v", err)
	}
	r.release("a", "1", false)
	now = now.Add(usedFor)
	if r.sweep(); len(r.sessions) != 0 || r.used != 0 {
		t.Errorf("%d sessions and %d ids stay in memory", len(r.sessions), r.used)
	}
}

// TestRequestIDsAreBounded: a session that has had too many requests has to begin
// anew, and the memory for all is bounded.
func TestRequestIDsAreBounded(t *testing.T) {
	r := newRequests(clock.Now)
	for i := range maxSessionIDs {
		if err := r.claim("a", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		r.release("a", strconv.Itoa(i), true)
	}
	if err := r.claim("a", "x"); !errors.Is(err, ErrSessionFull) {
		t.Errorf("one more: %v", err)
	}
	r.used = maxIDs
	if err := r.claim("b", "x"); err != nil {
		t.Fatal(err)
	}
	r.release("b", "x", true)
	if r.sessions["a"] != nil || r.sessions["b"] == nil || r.used > maxIDs {
		t.Errorf("%d ids of %d sessions", r.used, len(r.sessions))
	}
}
