package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// registered is a view of a shared store that also keeps descriptions of nodes.
type registered struct {
	shared
	mu     sync.Mutex
	about  string
	writes int
	leases []keys.Lease
}

func (s *registered) Introduce(_ context.Context, _, about string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about = about
	s.writes++
	return nil
}

func (s *registered) Leases(context.Context) ([]keys.Lease, error) { return s.leases, nil }

func (s *registered) stored() (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.about, s.writes
}

// TestFollowerIntroducesItself checks that a node stores its description once, again
// when the description has changed, and again after an outage.
func TestFollowerIntroducesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &registered{shared: shared{revocationLog: newRevocationLog(clock.Now, 0)}}
		cache, err := keycache.New(struct{ keycache.Origin }{}, keycache.Options{Size: 1, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		f := follow(log, cache, func(keys.Digest) {}, func() {}, slog.New(slog.DiscardHandler))
		defer f.stop()
		expect := func(about string, writes int) {
			t.Helper()
			_ = clock.Sleep(t.Context(), 4*renewEvery)
			if got, n := log.stored(); got != about || n != writes {
				t.Errorf("the store has %q after %d writes, want %q after %d", got, n, about, writes)
			}
		}
		expect("", 0)
		first, second := "first", "second"
		f.about.Store(&first)
		expect("first", 1)
		f.about.Store(&second)
		expect("second", 2)
		log.broken.Store(true)
		expect("second", 2)
		log.broken.Store(false)
		expect("second", 3)
	})
}

// TestNodes checks the list of nodes: this process, a live node of another version, a
// node with an ended lease, and a node of a version without descriptions. Without a
// shared store, the list has only this process.
func TestNodes(t *testing.T) {
	_, parts := cluster(t, 1)
	store := &registered{shared: shared{Store: parts[0].Store, revocationLog: parts[0].revocationLog}}
	r := openOn(t, store, t.TempDir())
	r.Describe("localhost:2019")
	other, _ := json.Marshal(NodeDescription{Host: "\x7fother", PID: 7, Version: "v0.1.0"})
	store.leases = []keys.Lease{
		{Node: "old", Left: time.Second}, {Node: r.id, Left: -time.Second},
		{Node: "other", About: string(other), Left: time.Second}, {Node: "dead", About: "[]", Left: -time.Minute},
	}
	list, err := r.Nodes(t.Context())
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	dead, old, self, live := list[0], list[1], list[2], list[3]
	if dead.ID != "dead" || dead.Live || dead.Self || dead.NodeDescription != (NodeDescription{}) || clock.Since(dead.LastSeen) < time.Minute {
		t.Errorf("a dead node: %+v", dead)
	}
	if old.ID != "old" || !old.Live || old.Host != "" {
		t.Errorf("a node without a description: %+v", old)
	}
	if self.ID != r.id || !self.Self || !self.Live || self.PID != os.Getpid() || self.Admin != "localhost:2019" || self.Version == "" || self.Started.IsZero() {
		t.Errorf("this process: %+v", self)
	}
	if live.ID != "other" || live.Self || !live.Live || live.PID != 7 || live.Version != "v0.1.0" {
		t.Errorf("another node: %+v", live)
	}
}
