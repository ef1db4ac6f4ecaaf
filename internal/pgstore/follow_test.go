//go:build unix

package pgstore

import (
	"context"
	"errors"
	"testing"
	"time"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// someKey creates an account and a key for it.
func someKey(t *testing.T, s *Store, account string) keys.Key {
	t.Helper()
	ctx := t.Context()
	row := ledger.Audit{At: clock.Now(), Actor: "test", Action: "test"}
	a := ledger.Account{ID: ids.New("acct_"), Name: account, CreatedAt: clock.Now()}
	if err := s.CreateAccount(ctx, a, row); err != nil {
		t.Fatal(err)
	}
	secret := keys.Mint(keys.Agent, keys.Live)
	k := keys.Key{ID: ids.New("key_"), Account: a.ID, Kind: keys.Agent, Environment: keys.Live, Digest: keys.DigestOf(secret), Hint: keys.Hint(secret), CreatedAt: clock.Now()}
	k.Lineage = k.ID
	if err := s.CreateKey(ctx, k, row); err != nil {
		t.Fatal(err)
	}
	return k
}

func disable(t *testing.T, s *Store, k keys.Key) {
	t.Helper()
	_, err := s.UpdateKey(t.Context(), k.ID, func(k *keys.Key) error {
		k.DisabledAt = clock.Now()
		return nil
	}, ledger.Audit{At: clock.Now(), Actor: "test", Action: "test"})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFollow checks that a node is notified of a change of a key at once, and reads
// each change once. Follow sets Gap if the node may have missed changes.
func TestFollow(t *testing.T) {
	s := fresh(t)
	k := someKey(t, s, "alice")
	follow := func(seen int64) keys.Revocations {
		t.Helper()
		r, err := s.Follow(t.Context(), "node-1", seen, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := follow(-1)
	if len(first.Digests) != 0 || first.Gap || first.Position < 1 {
		t.Fatalf("%+v", first)
	}
	deadline := time.After(10 * time.Second)
	for heard := false; !heard; { // change the key until a change is notified, because the store may not listen to notifications yet
		changed := s.Changed()
		disable(t, s, k)
		select {
		case <-changed:
			heard = true
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatal("nothing was heard of a change")
		}
	}
	then := follow(first.Position)
	if len(then.Digests) == 0 || then.Digests[0] != k.Digest || then.Gap || then.More {
		t.Fatalf("%+v", then)
	}
	if again := follow(then.Position); len(again.Digests) != 0 || again.Position != then.Position || again.Gap {
		t.Errorf("%+v", again)
	}
	if r := follow(then.Position + 1); !r.Gap || r.Position != then.Position {
		t.Errorf("a position that is not there yet: %+v", r)
	}
	if err := s.db.Exec(t.Context(), `DELETE FROM revocation WHERE seq <= $1`, first.Position); err != nil {
		t.Fatal(err)
	}
	if r := follow(0); !r.Gap || r.Position != then.Position {
		t.Errorf("a position before the oldest: %+v", r)
	}
}

// TestConfirm checks that Confirm waits until each other node has read the change,
// has left, or has no lease any more. Confirm does not wait for its own node.
func TestConfirm(t *testing.T) {
	s := fresh(t)
	k := someKey(t, s, "alice")
	r, err := s.Follow(t.Context(), "node-1", -1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	disable(t, s, k)
	began := clock.Now()
	confirm := func(node string) time.Duration {
		t.Helper()
		if err := s.Confirm(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		return clock.Since(began)
	}
	if took := confirm("node-1"); took > 900*time.Millisecond {
		t.Errorf("it waited for itself: %s", took)
	}
	if took := confirm("node-2"); took < 900*time.Millisecond {
		t.Errorf("it did not wait for a node that has not read: %s", took)
	}
	if _, err := s.Follow(t.Context(), "node-1", r.Position, time.Hour); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Confirm(ctx, "node-2"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Follow(t.Context(), "node-1", r.Position+1, time.Hour); err != nil {
		t.Fatal(err)
	}
	confirm("node-2")
	disable(t, s, k)
	if err := s.Leave(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	confirm("node-2")
}
