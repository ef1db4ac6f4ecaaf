package engine

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestNodeBelievesNothingFromBeforeItFollowed checks that a node does not trust keys
// that it cached before it first read the log. Before that, the node had no lease, so
// key changes did not wait for the node, and its first renewal does not return these
// changes. For the same reason, streams that are older than the first renewal must be
// notified.
func TestNodeBelievesNothingFromBeforeItFollowed(t *testing.T) {
	nodes, parts := cluster(t, 1)
	k, other := newAgent(t, nodes[0], "alice"), newAgent(t, nodes[0], "alice")
	wake := make(chan struct{})
	late := &shared{Store: parts[0].Store, revocationLog: parts[0].revocationLog}
	late.frozen.Store(&wake)
	r := openOn(t, late, t.TempDir())
	stream := r.Watch(k.Digest)
	defer stream.End()
	lookup := func() error {
		found, err := r.Lookup(t.Context(), netip.Addr{}, k.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return found.Check(clock.Now(), keys.Use{})
	}
	if err := lookup(); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[0].Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
		t.Fatal(err)
	}
	late.frozen.Store(nil)
	close(wake)
	for until := clock.Now().Add(2 * LeaseTime); ; {
		_, source, err := r.cache.Lookup(t.Context(), other.Digest, nil)
		if err != nil || clock.Now().After(until) {
			t.Fatalf("it does not use its memory: %v", err)
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
		t.Error("a stream from before it followed was not notified")
	}
}

// TestStubbornNodeHoldsNothingUp checks a node that keeps renewing its lease but
// never acknowledges a change. The change waits for the node only until the end of
// the lease that the node had when the change was made. A renewal does not prolong
// the wait, because each renewal returns the change.
func TestStubbornNodeHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRevocationLog(clock.Now, 0)
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
		began := clock.Now()
		done := make(chan error, 1)
		go func() { done <- b.Confirm(t.Context(), "") }()
		select {
		case err := <-done:
			if took := clock.Since(began); err != nil || took != LeaseTime {
				t.Errorf("after %s: %v", took, err)
			}
		case <-time.After(time.Minute):
			t.Error("a node that never acknowledges the change blocks it for ever")
		}
	})
}

// TestStreamsAreDoubtedWithTheLog checks that while the log cannot be read, streams
// check their keys again once per LeaseTime, since a key may have been deleted
// elsewhere. An interruption shorter than a lease has no effect.
func TestStreamsAreDoubtedWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 0
		s := &shared{revocationLog: newRevocationLog(clock.Now, 0)}
		n := follow(s, &memory{began: clock.Now()}, func(keys.Digest) {}, func() { lost++ }, slog.New(slog.DiscardHandler))
		defer n.stop()
		synctest.Wait()
		lost = 0
		for _, c := range []struct {
			down time.Duration
			want int
		}{{LeaseTime - renewEvery - retryEvery, 0}, {LeaseTime + retryEvery, 1}, {3*LeaseTime + 3*retryEvery, 3}} {
			s.broken.Store(true)
			time.Sleep(c.down)
			synctest.Wait()
			if lost != c.want {
				t.Errorf("looked up %d times in a break of %s, want %d", lost, c.down, c.want)
			}
			s.broken.Store(false)
			time.Sleep(LeaseTime)
			synctest.Wait()
			lost = 0
		}
	})
}

// TestRestartRemembersThatThereMayBeLeases checks that a delete after a restart waits
// for leases that the previous process may have granted. If no gateway key was ever
// created, no node can have a lease, and the delete does not wait.
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
			given := clock.Now()
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
			began := clock.Now()
			if _, err := r.Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
				t.Fatal(err)
			}
			switch took := clock.Since(began); {
			case kind == keys.Gateway && clock.Since(given) < LeaseTime:
				t.Errorf("the delete took %s and did not wait for the lease", took)
			case kind != keys.Gateway && took > LeaseTime/2, took > LeaseTime+time.Second:
				t.Errorf("the delete took %s", took)
			}
		})
	}
}
