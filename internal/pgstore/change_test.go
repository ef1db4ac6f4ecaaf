//go:build unix

package pgstore

import (
	"context"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestStoppedChangeHoldsNoLock stops a node right after it has sent a change of a key.
// All changes of keys take the same lock for their revocations. The test checks that
// the stopped node nevertheless does not block the change of another key on another
// node.
func TestStoppedChangeHoldsNoLock(t *testing.T) {
	s := fresh(t)
	other := opened(t, Options{DSN: s.o.DSN})
	owner := account(t, s, "owner", 0)
	mine, theirs := newKey(owner), newKey(owner)
	for _, k := range []keys.Key{mine, theirs} {
		if err := s.CreateKey(t.Context(), k, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(k *keys.Key) error { k.Name = "renamed"; return nil }
	conn, err := s.transact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	c := &changes{tx: conn}
	if _, err := c.changeKey(t.Context(), mine.ID, rename); err != nil {
		t.Fatal(err)
	}
	if err := s.finish(t.Context(), c, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	// From here on the first node, s, does nothing.
	ctx, cancel := context.WithTimeout(t.Context(), idleTime/2)
	defer cancel()
	if _, err := other.UpdateKey(ctx, theirs.ID, rename, ledger.Audit{}); err != nil {
		t.Errorf("a change of another key: %v", err)
	}
	if k, err := other.Key(ctx, mine.ID); err != nil || k.Name != "renamed" {
		t.Errorf("the key is %+v, %v", k, err)
	}
}
