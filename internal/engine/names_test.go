package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// naming is a store that returns names and counts its queries.
type naming struct {
	Store
	names map[string]string
	err   error
	wait  bool
	asked int
}

func (n *naming) AccountNames(ctx context.Context, _ []string) (map[string]string, error) {
	n.asked++
	if n.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.names, n.err
}

// TestNamesAreRemembered checks that the store is asked once for a known name, and
// every time for an unknown name. The cache is bounded.
func TestNamesAreRemembered(t *testing.T) {
	store := &naming{names: map[string]string{"acct_1": "alice"}}
	n := newNames(store)
	for range 3 {
		if got := n.lookup(t.Context(), "acct_1"); got != "alice" {
			t.Errorf("it is called %q", got)
		}
	}
	if got := n.lookup(t.Context(), "acct_2"); got != "" || store.asked != 2 {
		t.Errorf("called %q, asked %d times, want none and 2", got, store.asked)
	}
	for i := range 2 * maxNames {
		id := fmt.Sprintf("acct_%d", i)
		store.names = map[string]string{id: "x"}
		n.lookup(t.Context(), id)
	}
	if len(n.known) > maxNames {
		t.Errorf("%d names are remembered, want at most %d", len(n.known), maxNames)
	}
	if got := newNames(struct{ Store }{}).lookup(t.Context(), "acct_1"); got != "" {
		t.Errorf("a store that knows no names says %q", got)
	}
}

// TestNamesDoNotHoldRefusalsUp checks that a refusal waits at most nameTime, a
// second, for a name. A store that failed is not asked again until nameRetry has
// passed.
func TestNamesDoNotHoldRefusalsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &naming{wait: true}
		n := newNames(store)
		began := clock.Now()
		for range 10 {
			if got := n.lookup(t.Context(), "acct_1"); got != "" {
				t.Errorf("called %q", got)
			}
		}
		if took := clock.Since(began); took != nameTime || store.asked != 1 {
			t.Errorf("waited %s and asked %d times, want %s and once", took, store.asked, nameTime)
		}
		time.Sleep(nameRetry)
		store.wait, store.err = false, errors.New("still down")
		n.lookup(t.Context(), "acct_1")
		time.Sleep(nameRetry)
		store.err, store.names = nil, map[string]string{"acct_1": "alice"}
		if got := n.lookup(t.Context(), "acct_1"); got != "alice" || store.asked != 3 {
			t.Errorf("called %q, asked %d times, want alice and 3", got, store.asked)
		}
	})
}
