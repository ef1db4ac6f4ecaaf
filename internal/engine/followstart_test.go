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
		_, source, err := r.cache.Lookup(t.Context(), other.Digest)
		if err != nil || clock.Now().After(until) {
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
		b := newBoard(clock.Now, 0)
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
			t.Error("a node that never tells that it has read holds a change up for ever")
		}
	})
}

// While the log cannot be read, the keys of open streams are looked up again, by
// each time that a lease would have lapsed: a key may have ended elsewhere. A break
// that is shorter than a lease disturbs nobody.
func TestStreamsAreDoubtedWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 0
		s := &shared{board: newBoard(clock.Now, 0)}
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
