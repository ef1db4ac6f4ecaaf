package keycache

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"

	"github.com/fareboxhq/farebox/internal/clock"
)

// storeOrigin is a real store in which a race creates keys and narrows their rights.
type storeOrigin struct {
	*sqlitestore.Store
	t       *testing.T
	account string
	loads   atomic.Int64
	mu      sync.Mutex
	ids     map[keys.Digest]string
}

func newStoreOrigin(t *testing.T) *storeOrigin {
	t.Helper()
	store, err := sqlitestore.Open(context.Background(), sqlitestore.Options{Path: filepath.Join(t.TempDir(), "f.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &storeOrigin{Store: store, t: t, account: realistic(0).Account, ids: make(map[keys.Digest]string)}
	if err := store.CreateAccount(context.Background(), ledger.Account{ID: o.account, Name: "alice"}, raceAudit); err != nil {
		t.Fatal(err)
	}
	return o
}

var raceAudit = ledger.Audit{Actor: "race", Action: "race"}

func (o *storeOrigin) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	o.loads.Add(1)
	return o.Store.KeyByDigest(ctx, d)
}

func (o *storeOrigin) add(k *keys.Key) keys.Digest {
	k.Account = o.account
	if err := o.CreateKey(context.Background(), *k, raceAudit); err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids[k.Digest] = k.ID
	return k.Digest
}

func (o *storeOrigin) change(d keys.Digest, f func(*keys.Key)) {
	o.mu.Lock()
	id := o.ids[d]
	o.mu.Unlock()
	if _, err := o.UpdateKey(context.Background(), id, func(k *keys.Key) error { f(k); return nil }, raceAudit); err != nil {
		o.t.Error(err)
	}
}

// storeRace lets lookups race against changes that narrow the rights of keys, on the
// real store.
func storeRace(t *testing.T, options Options, revoke func(*Cache) func(keys.Digest), enough func(tally) bool) tally {
	t.Helper()
	origin := newStoreOrigin(t)
	cache := newCache(t, origin, options)
	changesAtLeast := int64(0)
	got := race{
		cache: cache, origin: origin, revoke: revoke(cache), readers: 2 * runtime.GOMAXPROCS(0),
		enough: func(lookups, stale int64) bool {
			changesAtLeast += int64(len(narrowings))
			return enough(tally{lookups, stale, changesAtLeast})
		},
	}.run(t)
	t.Logf("%d lookups, %d loads from the store, %d changes, %d stale", got.lookups, origin.loads.Load(), got.changes, got.stale)
	return got
}

// TestRaceOnTheStore checks promise 6 of docs/promises.md on the real cache and the
// real store. While keys are deleted, disabled or narrowed in other ways, millions of
// lookups run. Once the call that changed a key has returned, no later lookup gets the
// key with its old rights.
func TestRaceOnTheStore(t *testing.T) {
	least, ttl := int64(3_000_000), time.Millisecond
	if raceEnabled {
		least, ttl = 1_000_000, 50*time.Millisecond
	}
	limit := clock.Now().Add(5 * time.Minute) // for a machine that is busy; it takes seconds
	got := storeRace(t, Options{TTL: ttl},
		func(c *Cache) func(keys.Digest) { return c.Revoke },
		func(so tally) bool {
			return so.stale > 0 || clock.Now().After(limit) || so.lookups >= least && so.changes > 400
		})
	if got.stale != 0 {
		t.Errorf("%d of %d lookups began after a change and got the key as it was before", got.stale, got.lookups)
	}
	if got.lookups < least || got.changes < 400 {
		t.Errorf("only %d lookups and %d changes: the race shows nothing", got.lookups, got.changes)
	}
}

// TestRaceOnTheStoreNoticesMissingGenerations tests TestRaceOnTheStore: without the
// check of generations, the same race must find stale lookups.
func TestRaceOnTheStoreNoticesMissingGenerations(t *testing.T) {
	limit := clock.Now().Add(30 * time.Second)
	got := storeRace(t, Options{TTL: time.Millisecond, trustStale: true},
		func(c *Cache) func(keys.Digest) { return func(d keys.Digest) { c.entries.Del(slot(d)) } },
		func(so tally) bool { return so.stale > 0 || clock.Now().After(limit) })
	if got.stale == 0 {
		t.Errorf("no stale lookup among %d: the race would not notice a cache that is outrun", got.lookups)
	}
}
