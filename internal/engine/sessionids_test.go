package engine

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/share"
)

// TestRequestIDs checks that an id is in flight at most once in a session. An id with a
// stream that may be resumed cannot be used again while the session lasts. Different
// sessions can use the same ids.
func TestRequestIDs(t *testing.T) {
	now := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	r := newRequests(func() time.Time { return now }, share.New(1<<21, nil))
	for _, name := range []string{"a", "b"} {
		if err := r.lock(payer, name, "1"); err != nil {
			t.Fatal(err)
		}
		if err := r.lock(payer, name, "1"); !errors.Is(err, ErrIDTaken) {
			t.Fatalf("a second request: %v", err)
		}
	}
	r.unlock("a", "1", false)
	r.unlock("b", "1", true)
	if err := r.lock(payer, "a", "1"); err != nil {
		t.Errorf("after its end: %v", err)
	}
	if err := r.lock(payer, "b", "1"); !errors.Is(err, ErrIDTaken) {
		t.Errorf("while its stream may be resumed: %v", err)
	}
	r.unlock("a", "1", false)
	now = now.Add(sessionTTL)
	if r.sweep(); len(r.sessions) != 0 || r.budget.Used() != 0 {
		t.Errorf("%d sessions and %d ids stay in memory", len(r.sessions), r.budget.Used())
	}
}

// TestRequestIDsAreBounded checks that a session with too many requests refuses further
// requests. The client of the session must then begin a new session. The memory for all
// sessions is bounded, too.
func TestRequestIDsAreBounded(t *testing.T) {
	r := newRequests(clock.Now, share.New(1<<21, nil))
	for i := range maxSessionIDs {
		if err := r.lock(payer, "a", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		r.unlock("a", strconv.Itoa(i), true)
	}
	if err := r.lock(payer, "a", "x"); !errors.Is(err, ErrSessionFull) {
		t.Errorf("one more: %v", err)
	}
	r.budget.SetTotal(maxSessionIDs)
	if err := r.lock(share.Holder{Account: "v", Lineage: "v", Paid: true}, "b", "x"); err != nil {
		t.Fatal(err)
	}
	r.unlock("b", "x", true)
	if r.sessions["a"] != nil || r.sessions["b"] == nil || r.budget.Used() != 1 {
		t.Errorf("%d ids of %d sessions", r.budget.Used(), len(r.sessions))
	}
}

// TestRequestIDsAreShared checks an attack by ten keys that begin as many sessions as
// possible. These keys can neither keep another key from beginning a session nor evict
// the ids of that key's session. After an eviction, a free call could get the
// response of a paid call.
func TestRequestIDsAreShared(t *testing.T) {
	r := newRequests(clock.Now, share.New(1280, nil))
	victim := share.Holder{Account: "v", Lineage: "v", Paid: true}
	if err := r.lock(victim, "v", "1"); err != nil {
		t.Fatal(err)
	}
	r.unlock("v", "1", true)
	refused := 0
	for i := range 10_000 {
		key := strconv.Itoa(i % 10)
		session := "s" + strconv.Itoa(i)
		switch err := r.lock(share.Holder{Account: key, Lineage: key, Paid: i%2 == 0}, session, "1"); {
		case share.ClassOf(err) != "":
			refused++
		case err != nil:
			t.Fatal(err)
		default:
			r.unlock(session, "1", true)
		}
	}
	if err := r.lock(victim, "v", "1"); !errors.Is(err, ErrIDTaken) {
		t.Errorf("the id of a stream that may be resumed: %v", err)
	}
	if err := r.lock(victim, "v", "2"); err != nil || refused == 0 {
		t.Errorf("a new id: %v; %d were refused to others", err, refused)
	}
}

var payer = share.Holder{Account: "a", Lineage: "a", Paid: true}
