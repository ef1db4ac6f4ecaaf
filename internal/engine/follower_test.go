package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"

	"github.com/fareboxhq/farebox/internal/clock"
)

// shared is one runtime's view of a store that several runtimes share in a test, as
// processes share a database. It is a real store with a log of its changes.
type shared struct {
	*sqlitestore.Store
	*revocationLog
	frozen atomic.Pointer[chan struct{}] // while set, renewals of this node hang
	broken atomic.Bool
}

var errBroken = errors.New("the connection is cut")

func (s *shared) Close() error { return nil } // does nothing, because the test itself closes the shared store

func (s *shared) Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error) {
	if stop := s.frozen.Load(); stop != nil {
		<-*stop
	}
	if s.broken.Load() {
		return keys.Revocations{}, errBroken
	}
	return s.revocationLog.Follow(ctx, node, seen, lease)
}

func (s *shared) Confirm(ctx context.Context, node string) error {
	if s.broken.Load() {
		return errBroken
	}
	return s.revocationLog.Confirm(ctx, node)
}

func (s *shared) UpdateKey(ctx context.Context, id string, change func(*keys.Key) error, a ledger.Audit) (keys.Key, error) {
	k, err := s.Store.UpdateKey(ctx, id, change, a)
	if err == nil {
		s.revocationLog.Append(k.Digest)
	}
	return k, err
}

// cluster returns n runtimes that share one store.
func cluster(t *testing.T, n int) ([]*Runtime, []*shared) {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: filepath.Join(dir, "f.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	log := newRevocationLog(clock.Now, 0)
	nodes, parts := make([]*Runtime, n), make([]*shared, n)
	for i := range nodes {
		parts[i] = &shared{Store: store, revocationLog: log}
		nodes[i] = openOn(t, parts[i], dir)
	}
	return nodes, parts
}

// openOn opens a runtime on its view of a shared store.
func openOn(t *testing.T, part Store, dir string) *Runtime {
	t.Helper()
	r, err := Open(t.Context(), Options{
		Open:    func(context.Context) (Store, error) { return part, nil },
		KeyFile: filepath.Join(dir, "receipt-key"), SealFile: filepath.Join(dir, "seal-key"), DebtDir: filepath.Join(dir, "refunds"),
		Cache: keycache.Options{}, Metrics: telemetry.New(new(telemetry.Process)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newAgent(t *testing.T, r *Runtime, account string) keys.Key {
	t.Helper()
	if _, err := r.Service().EnsureAccount(t.Context(), admin.Actor{Name: "test"}, account); err != nil {
		t.Fatal(err)
	}
	k, _, err := r.Service().CreateKey(t.Context(), admin.Actor{Name: "test"}, admin.NewKey{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDeletedIsDeadAtEveryNode checks that a key deleted at one node is refused at
// all nodes as soon as the call returns, while every node looks keys up continuously.
func TestDeletedIsDeadAtEveryNode(t *testing.T) {
	nodes, _ := cluster(t, 3)
	var deleted sync.Map // a set of the digests of deleted keys
	var current atomic.Pointer[keys.Key]
	first := newAgent(t, nodes[0], "alice")
	current.Store(&first)
	ctx, stop := context.WithCancel(t.Context())
	var lookups, stale atomic.Int64
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for ctx.Err() == nil {
				k := current.Load()
				_, dead := deleted.Load(k.Digest)
				found, err := nodes[i%3].Lookup(t.Context(), netip.Addr{}, k.Digest)
				if err != nil {
					t.Errorf("lookup: %v", err)
					return
				}
				lookups.Add(1)
				if dead && found.Check(clock.Now(), keys.Use{}) == nil {
					stale.Add(1)
				}
			}
		})
	}
	var longest time.Duration
	for i := range 40 {
		began := clock.Now()
		if _, err := nodes[i%3].Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, current.Load().ID); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, clock.Since(began))
		deleted.Store(current.Load().Digest, struct{}{})
		for until := lookups.Load() + 60; lookups.Load() < until; {
			if ctx.Err() != nil {
				t.FailNow()
			}
		}
		next := newAgent(t, nodes[i%3], "alice")
		current.Store(&next)
	}
	stop()
	callers.Wait()
	t.Logf("%d lookups, %d stale, longest delete %s", lookups.Load(), stale.Load(), longest)
	if stale.Load() > 0 {
		t.Errorf("%d lookups accepted a key after its delete had returned", stale.Load())
	}
}

// TestFrozenNodeHoldsNothingUp checks that a frozen node does not delay a delete for
// longer than its lease. When the node wakes, it reads the changes that it missed.
// Until then, it does not trust its memory.
func TestFrozenNodeHoldsNothingUp(t *testing.T) {
	nodes, parts := cluster(t, 2)
	k := newAgent(t, nodes[0], "alice")
	lookup := func(r *Runtime) error {
		found, err := r.Lookup(t.Context(), netip.Addr{}, k.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return found.Check(clock.Now(), keys.Use{})
	}
	for _, r := range nodes {
		if err := lookup(r); err != nil {
			t.Fatal(err)
		}
	}
	wake := make(chan struct{})
	parts[1].frozen.Store(&wake)
	began := clock.Now()
	if _, err := nodes[0].Service().DeleteKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
		t.Fatal(err)
	}
	if took := clock.Since(began); took > LeaseTime+time.Second {
		t.Errorf("the delete took %s", took)
	}
	for i, r := range nodes {
		if err := lookup(r); !errors.Is(err, keys.ErrDeleted) {
			t.Errorf("node %d: %v", i, err)
		}
	}
	parts[1].frozen.Store(nil)
	close(wake)
}

// TestUnreachableLogIsWaitedOut checks that a delete returns after LeaseTime if the
// log cannot be reached, and that no node trusts its memory then.
func TestUnreachableLogIsWaitedOut(t *testing.T) {
	nodes, parts := cluster(t, 2)
	k := newAgent(t, nodes[0], "alice")
	for _, p := range parts {
		p.broken.Store(true)
	}
	began := clock.Now()
	if _, err := nodes[0].Service().DisableKey(t.Context(), admin.Actor{Name: "test"}, k.ID); err != nil {
		t.Fatal(err)
	}
	if took := clock.Since(began); took < LeaseTime-renewEvery || took > LeaseTime+time.Second {
		t.Errorf("it took %s", took)
	}
	for i, r := range nodes {
		refuse := func(bool) error { return errBroken }
		if _, source, err := r.cache.Lookup(t.Context(), k.Digest, refuse); source != keycache.SourceStore || !errors.Is(err, errBroken) {
			t.Errorf("node %d trusts its memory: %s, %v", i, source, err)
		}
		if found, err := r.Lookup(t.Context(), netip.Addr{}, k.Digest); err != nil || !errors.Is(found.Check(clock.Now(), keys.Use{}), keys.ErrDisabled) {
			t.Errorf("node %d: %v", i, err)
		}
	}
}

// memory is a fake cache of a node, for tests of the log alone.
type memory struct {
	began   time.Time
	until   time.Duration
	revoked []keys.Digest
	all     int
}

func (m *memory) Clock() time.Duration { return clock.Since(m.began) }
func (m *memory) ExtendTrust(from time.Duration, _ time.Time, ttl time.Duration) {
	m.until = from + ttl
}
func (m *memory) Revoke(d keys.Digest) { m.revoked = append(m.revoked, d) }
func (m *memory) RevokeAll()           { m.all++ }
func (m *memory) Trusted() bool        { return m.Clock() < m.until }

// TestNodeReadsTheLog checks that a node reads each change exactly once and in order,
// including changes during an interruption. If changes may have been lost, the node
// invalidates its whole memory.
func TestNodeReadsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newRevocationLog(clock.Now, 0)
		log.Append(keys.Digest{0}) // a change from before the node followed the log
		m := &memory{began: clock.Now()}
		lost := 0
		s := &shared{revocationLog: log}
		n := follow(s, m, func(keys.Digest) {}, func() { lost++ }, slog.New(slog.DiscardHandler))
		synctest.Wait()
		for i := range 3 {
			log.Append(keys.Digest{byte(i + 1)})
		}
		synctest.Wait()
		if len(m.revoked) != 3 || m.revoked[0] != (keys.Digest{1}) || m.revoked[2] != (keys.Digest{3}) || m.all != 1 || lost != 1 {
			t.Errorf("read %v", m.revoked)
		}
		s.broken.Store(true)
		log.Append(keys.Digest{4})
		time.Sleep(LeaseTime)
		if n.lag() < LeaseTime {
			t.Errorf("the lag is %s after %s without an answer", n.lag(), LeaseTime)
		}
		if m.until > m.Clock() {
			t.Error("it trusts its memory without having read the log")
		}
		s.broken.Store(false)
		time.Sleep(retryEvery)
		synctest.Wait()
		if len(m.revoked) != 4 || m.until <= m.Clock() {
			t.Errorf("after the break: read %v", m.revoked)
		}
		lost = 0
		s.broken.Store(true)
		for range logSize + 1 {
			log.Append(keys.Digest{5})
		}
		s.broken.Store(false)
		time.Sleep(LeaseTime)
		synctest.Wait()
		if m.all != 2 || lost != 1 {
			t.Errorf("it missed changes and did not notice: %d, %d", m.all, lost)
		}
		n.stop()
		if m.until > m.Clock() {
			t.Error("a node that has left trusts its memory")
		}
		if len(log.nodes) != 0 {
			t.Error("a node that has left is waited for")
		}
	})
}

// TestRevocationLogConfirms checks that a key change waits only for nodes with a
// lease. It also checks that Follow reports a gap to a node that passes a position
// from another process's log.
func TestRevocationLogConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRevocationLog(clock.Now, 0)
		r, _ := b.Follow(t.Context(), "n", -1, time.Second)
		b.Append(keys.Digest{1})
		began := clock.Now()
		if err := b.Confirm(t.Context(), "n"); err != nil || clock.Since(began) != 0 {
			t.Errorf("it waits for itself: %v", err)
		}
		if err := b.Confirm(t.Context(), "other"); err != nil || clock.Since(began) != time.Second {
			t.Errorf("after %s: %v", clock.Since(began), err)
		}
		_, _ = b.Follow(t.Context(), "n", r.Position, time.Hour)
		done := make(chan error)
		go func() { done <- b.Confirm(t.Context(), "") }()
		synctest.Wait()
		if _, err := b.Follow(t.Context(), "n", r.Position+1, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || clock.Since(began) != time.Second {
			t.Errorf("after %s: %v", clock.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b.Append(keys.Digest{2})
		if err := b.Confirm(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it did not wait: %v", err)
		}
		for _, seen := range []int64{0, b.last + 1} {
			if r, _ := b.Follow(t.Context(), "m", seen, time.Second); !r.Gap || r.Position != b.last {
				t.Errorf("a position that is not of this log: %+v", r)
			}
		}
	})
}
