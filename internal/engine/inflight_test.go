package engine

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/share"
)

// TestRequestIDs: an id is under way once in a session; one whose stream may be
// resumed is not used again for as long as the session is in use, and other
// sessions have ids of their own.
func TestRequestIDs(t *testing.T) {
	now := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	r := newRequests(func() time.Time { return now }, share.New(1<<21, nil))
	for _, name := range []string{"a", "b"} {
		if err := r.claim(payer, name, "1"); err != nil {
			t.Fatal(err)
		}
		if err := r.claim(payer, name, "1"); !errors.Is(err, ErrIDTaken) {
			t.Fatalf("a second request: %v", err)
		}
	}
	r.release("a", "1", false)
	r.release("b", "1", true)
	if err := r.claim(payer, "a", "1"); err != nil {
		t.Errorf("after its end: %v", err)
	}
	if err := r.claim(payer, "b", "1"); !errors.Is(err, ErrIDTaken) {
		t.Errorf("while its stream may be resumed: %v", err)
	}
	r.release("a", "1", false)
	now = now.Add(usedFor)
	if r.sweep(); len(r.sessions) != 0 || r.budget.Used() != 0 {
		t.Errorf("%d sessions and %d ids stay in memory", len(r.sessions), r.budget.Used())
	}
}

// TestRequestIDsAreBounded: a session that has had too many requests has to begin
// anew, and the memory for all is bounded.
func TestRequestIDsAreBounded(t *testing.T) {
	r := newRequests(clock.Now, share.New(1<<21, nil))
	for i := range maxSessionIDs {
		if err := r.claim(payer, "a", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		r.release("a", strconv.Itoa(i), true)
	}
	if err := r.claim(payer, "a", "x"); !errors.Is(err, ErrSessionFull) {
		t.Errorf("one more: %v", err)
	}
	r.budget.SetTotal(maxSessionIDs)
	if err := r.claim(share.Holder{Account: "v", Lineage: "v", Paid: true}, "b", "x"); err != nil {
		t.Fatal(err)
	}
	r.release("b", "x", true)
	if r.sessions["a"] != nil || r.sessions["b"] == nil || r.budget.Used() != 1 {
		t.Errorf("%d ids of %d sessions", r.budget.Used(), len(r.sessions))
	}
}

// TestRequestIDsAreShared: ten keys that begin sessions for as long as they may
// neither keep another from beginning one, nor have the ids of its session
// forgotten, for which a free call could get the answer of a paid one.
func TestRequestIDsAreShared(t *testing.T) {
	r := newRequests(clock.Now, share.New(1280, nil))
	victim := share.Holder{Account: "v", Lineage: "v", Paid: true}
	if err := r.claim(victim, "v", "1"); err != nil {
		t.Fatal(err)
	}
	r.release("v", "1", true)
	refused := 0
	for i := range 10_000 {
		key := strconv.Itoa(i % 10)
		session := "s" + strconv.Itoa(i)
		switch err := r.claim(share.Holder{Account: key, Lineage: key, Paid: i%2 == 0}, session, "1"); {
		case share.ClassOf(err) != "":
			refused++
		case err != nil:
			t.Fatal(err)
		default:
			r.release(session, "1", true)
		}
	}
	if err := r.claim(victim, "v", "1"); !errors.Is(err, ErrIDTaken) {
		t.Errorf("the id of a stream that may be resumed: %v", err)
	}
	if err := r.claim(victim, "v", "2"); err != nil || refused == 0 {
		t.Errorf("a new id: %v; %d were refused to others", err, refused)
	}
}

var payer = share.Holder{Account: "a", Lineage: "a", Paid: true}
