package runtime

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
)

// What a node learned of keys before it first read the log is not believed
// afterwards: nobody waits for a node that has no lease, nor is it told of what
// came before it followed. That holds for streams, too.
func TestNodeBelievesNothingFromBeforeItFollowed(t *testing.T) {
	nodes, parts := cluster(t, 1)
	k, other := newAgent(t, nodes[0], "alice"), newAgent(t, nodes[0], "alice")
	wake := make(chan struct{})
	late := &shared{Store: parts[0].Store, board: parts[0].board}
	late.frozen.Store(&wake)
	r := openOn(t, late, t.TempDir())
	stream := r.Watch(k.Digest)
	defer stream.End()
	lookup := func() error {
		found, err := r.Lookup(t.Context(), netip.Addr{}, k.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return found.Check(time.Now(), keys.Use{})
	}
	if err := lookup(); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[0].Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
		t.Fatal(err)
	}
	late.frozen.Store(nil)
	close(wake)
	for until := time.Now().Add(2 * LeaseTime); ; {
		_, source, err := r.cache.Lookup(t.Context(), other.Digest)
		if err != nil || time.Now().After(until) {
			t.Fatalf("it does not believe what it knows: %v", err)
		}
		if source == keycache.SourceCache {
			break
		}
	}
	if err := lookup(); !errors.Is(err, keys.ErrDeleted) {
		t.Errorf("a key that was deleted before the node followed: %v", err)
	}
	select {
	case <-stream.Changed:
	default:
		t.Error("a stream from before it followed was not told to look again")
	}
}

// A change waits for a node for no longer than the lease that the node had when
// the change was made, whatever the node asks for afterwards: with the next
// lease it is told of the change.
func TestStubbornNodeHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(time.Now, 0)
		r, _ := b.Follow(t.Context(), "stubborn", -1, LeaseTime)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(renewEvery):
					_, _ = b.Follow(t.Context(), "stubborn", r.Position, LeaseTime)
				}
			}
		}()
		defer close(stop)
		b.Append(keys.Digest{1})
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- b.Confirm(t.Context(), "") }()
		select {
		case err := <-done:
			if took := time.Since(began); err != nil || took != LeaseTime {
				t.Errorf("after %s: %v", took, err)
			}
		case <-time.After(time.Minute):
			t.Error("a node that never tells that it has read holds a change up for ever")
		}
	})
}

// A node may believe what it knows by a lease that the process before gave: a
// restart does not make a deleted key alive there. Where no key for gateways was
// ever made, nobody can have followed, and nothing is waited for.
func TestRestartRemembersThatThereMayBeLeases(t *testing.T) {
	for _, kind := range []keys.Kind{keys.Agent, keys.Gateway} {
		t.Run(kind.String(), func(t *testing.T) {
			dir := t.TempDir()
			former, _ := open(t, dir)
			k := newAgent(t, former, "alice")
			other, _, err := former.Service().CreateKey(t.Context(), admin.Actor{Name: "test"}, admin.NewKey{Account: "alice", Kind: kind.String()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := former.Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, other.ID); err != nil {
				t.Fatal(err)
			}
			given := time.Now()
			if _, err := former.Revocations().Follow(t.Context(), "node", -1, LeaseTime); err != nil {
				t.Fatal(err)
			}
			if err := former.Destruct(); err != nil {
				t.Fatal(err)
			}
			r, _ := open(t, dir)
			defer func() {
				if err := r.Destruct(); err != nil {
					t.Error(err)
				}
			}()
			began := time.Now()
			if _, err := r.Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
				t.Fatal(err)
			}
			switch took := time.Since(began); {
			case kind == keys.Gateway && time.Since(given) < LeaseTime:
				t.Errorf("the delete took %s and did not wait for the lease", took)
			case kind != keys.Gateway && took > LeaseTime/2, took > LeaseTime+time.Second:
				t.Errorf("the delete took %s", took)
			}
		})
	}
}
