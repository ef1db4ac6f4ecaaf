package keycache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// narrowings are the ways in which a key may lose rights. They are applied in this
// order. The error that Check returns shows which narrowing of a key was the last.
var narrowings = []struct {
	name   string
	change func(*keys.Key)
	seen   error // the error of Check(writeUse) after the change
}{
	{"fewer scopes", func(k *keys.Key) { k.Scopes = []string{"billing.read"} }, keys.ErrScope},
	{"earlier expiry", func(k *keys.Key) { k.ExpiresAt = raceTime.Add(-time.Second) }, keys.ErrExpired},
	{"disabled", func(k *keys.Key) { k.DisabledAt = raceTime }, keys.ErrDisabled},
	{"deleted", func(k *keys.Key) { k.DeletedAt = raceTime }, keys.ErrDeleted},
}

var (
	raceTime = time.Unix(1_900_000_000, 0)
	writeUse = keys.Use{Scope: "billing.write"}
)

// narrowness returns the number of narrowings that the key has gone through.
func narrowness(k *keys.Key) int64 {
	err := k.Check(raceTime, writeUse)
	for i := len(narrowings); i > 0; i-- {
		if errors.Is(err, narrowings[i-1].seen) {
			return int64(i)
		}
	}
	return 0
}

// target is a key that goroutines look up while it is narrowed.
type target struct {
	digest keys.Digest
	// floor is the number of narrowings for which Revoke has already returned. A
	// lookup that begins now must return the key with at least as many narrowings.
	floor atomic.Int64
}

// raceTarget is an origin in which a race creates keys and narrows their rights. A
// change is durable as soon as the change method returns.
type raceTarget interface {
	Origin
	add(*keys.Key) keys.Digest
	change(keys.Digest, func(*keys.Key))
}

// race is a race between revocations and goroutines that look up keys.
type race struct {
	cache   *Cache
	origin  raceTarget
	revoke  func(keys.Digest)
	readers int
	enough  func(lookups, stale int64) bool // reports whether the race can end; called after every narrowing
}

// tally counts the events of a race.
type tally struct{ lookups, stale, changes int64 }

// run looks up keys without pause while it narrows one key after another, step by step
// until the key is deleted. It counts as stale the lookups that began after a
// revocation had returned and still got the key as it was before.
func (r race) run(t *testing.T) tally {
	t.Helper()
	var (
		lookups, stale atomic.Int64
		stop           atomic.Bool
		readers        sync.WaitGroup
		changes        int64
		made           int
	)
	fresh := func() *target {
		key := realistic(made)
		key.Scopes = []string{"billing.read", "billing.write"}
		if made%2 == 1 {
			key.Kind, key.Servers = keys.Access, []string{"weather"} // access tokens are revoked like keys
		}
		made++
		return &target{digest: r.origin.add(key)}
	}
	targets := make([]atomic.Pointer[target], 16)
	for i := range targets {
		targets[i].Store(fresh())
	}
	for n := range r.readers {
		readers.Go(func() {
			count := int64(0)
			for i := n; !stop.Load(); i++ {
				tg := targets[i%len(targets)].Load()
				floor := tg.floor.Load() // read before the lookup begins
				key, _, err := r.cache.Lookup(context.Background(), tg.digest, nil)
				if err != nil || key.Digest != tg.digest {
					t.Errorf("lookup: wrong key or error %v", err)
					return
				}
				if narrowness(key) < floor {
					stale.Add(1)
				}
				if count++; count%256 == 0 {
					lookups.Add(256)
				}
			}
		})
	}
	for i := 0; !r.enough(lookups.Load(), stale.Load()); i = (i + 1) % len(targets) {
		tg := targets[i].Load()
		for step := range narrowings {
			r.origin.change(tg.digest, narrowings[step].change)
			r.revoke(tg.digest)
			tg.floor.Store(int64(step + 1)) // a lookup that begins from now on must see this step
			changes++
			for range 2 * r.readers { // give the goroutines time to load the key again
				runtime.Gosched()
			}
		}
		targets[i].Store(fresh())
	}
	stop.Store(true)
	readers.Wait()
	return tally{lookups: lookups.Load(), stale: stale.Load(), changes: changes}
}

// raceOrigin returns an origin with answers that are often out of date on arrival:
// other goroutines may run after it has read a key and before it returns the key.
func raceOrigin() *memoryOrigin {
	o := newOrigin()
	o.after = func(context.Context, keys.Digest) error { runtime.Gosched(); return nil }
	return o
}

// raceOptions returns options with a short TTL, so that loads constantly race
// revocations.
func raceOptions() Options { return Options{TTL: 200 * time.Microsecond} }

// TestRaceNoLookupOutrunsRevocation checks promise 6 of docs/promises.md. Millions of
// lookups race deletions, disablings and other narrowings of keys. Once the revocation
// has returned, no later lookup gets the key with its old rights.
func TestRaceNoLookupOutrunsRevocation(t *testing.T) {
	least, patience := int64(3_000_000), 5*time.Second
	if raceEnabled {
		least, patience = 200_000, 3*time.Second
	}
	origin := raceOrigin()
	cache := newCache(t, origin, raceOptions())
	end, limit := clock.Now().Add(patience), clock.Now().Add(time.Minute)
	got := race{
		cache: cache, origin: origin, revoke: cache.Revoke, readers: 4 * runtime.GOMAXPROCS(0),
		enough: func(lookups, stale int64) bool {
			now := clock.Now()
			return stale > 0 || now.After(limit) || (lookups >= least && now.After(end))
		},
	}.run(t)
	t.Logf("%d lookups, %d loads, %d changes, %d stale", got.lookups, origin.total.Load(), got.changes, got.stale)
	if got.stale != 0 {
		t.Errorf("%d of %d lookups began after a revocation and got the key as it was before", got.stale, got.lookups)
	}
	if got.lookups < least || got.changes < 1000 {
		t.Errorf("only %d lookups and %d changes in a minute: the race shows nothing", got.lookups, got.changes)
	}
}

// TestRaceNoticesMissingGenerations tests TestRaceNoLookupOutrunsRevocation: if
// revocation deletes entries but generations are ignored, the same race must find
// stale lookups.
func TestRaceNoticesMissingGenerations(t *testing.T) {
	origin := raceOrigin()
	o := raceOptions()
	o.trustStale = true
	cache := newCache(t, origin, o)
	limit := clock.Now().Add(30 * time.Second)
	got := race{
		cache: cache, origin: origin, readers: 4 * runtime.GOMAXPROCS(0),
		revoke: func(d keys.Digest) { cache.entries.Del(slot(d)) },
		enough: func(_, stale int64) bool { return stale > 0 || clock.Now().After(limit) },
	}.run(t)
	if got.stale == 0 {
		t.Fatalf("no stale lookup among %d: the race test would not notice a cache that is outrun", got.lookups)
	}
	t.Logf("stale after %d changes", got.changes)
}

// overtake lets a deletion overtake a load: the load begins, the origin reads the
// key, the key is deleted and revoked, the load ends. It returns the errors of two
// lookups that began after the revocation. The first ran while the load was still
// blocked, the second after the load had ended.
func overtake(t *testing.T, o Options, revoke func(*Cache, keys.Digest)) (during, after error) {
	t.Helper()
	origin, held := newOrigin(), newGate()
	digest := origin.add(realistic(1))
	origin.setAfter(held.wait)
	cache := newCache(t, origin, o)

	first := make(chan error, 1)
	go func() {
		_, _, err := cache.Lookup(context.Background(), digest, nil)
		first <- err
	}()
	<-held.reached // the origin has read the key and has not returned it
	origin.setAfter(nil)
	origin.change(digest, func(k *keys.Key) { k.DeletedAt = raceTime })
	revoke(cache, digest)

	check := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		key, _, err := cache.Lookup(ctx, digest, nil)
		if err != nil {
			return err
		}
		return key.Check(raceTime, keys.Use{})
	}
	second := make(chan error, 1)
	if o.trustStale {
		second <- nil // without generations, a second lookup would join the blocked load and never return
	} else {
		second <- check()
	}
	held.open()
	if err := <-first; err != nil {
		t.Fatalf("the load that was overtaken: %v", err)
	}
	return <-second, check()
}

// TestOvertakenLoadIsNeverBelieved checks promise 6 of docs/promises.md
// deterministically: neither a lookup during the overtaken load nor one after it gets
// the key that the load read.
func TestOvertakenLoadIsNeverBelieved(t *testing.T) {
	for name, revoke := range map[string]func(*Cache, keys.Digest){
		"Revoke":    func(c *Cache, d keys.Digest) { c.Revoke(d) },
		"RevokeAll": func(c *Cache, _ keys.Digest) { c.RevokeAll() },
	} {
		t.Run(name, func(t *testing.T) {
			during, after := overtake(t, Options{}, revoke)
			if !errors.Is(during, keys.ErrDeleted) || !errors.Is(after, keys.ErrDeleted) {
				t.Errorf("during the load: %v; after it: %v; want the key deleted both times", during, after)
			}
		})
	}
}

// TestOvertakenLoadIsBelievedWithoutGenerations tests TestOvertakenLoadIsNeverBelieved:
// without the check of generations, the deleted key is accepted again.
func TestOvertakenLoadIsBelievedWithoutGenerations(t *testing.T) {
	_, after := overtake(t, Options{trustStale: true}, func(c *Cache, d keys.Digest) { c.entries.Del(slot(d)) })
	if after != nil {
		t.Errorf("after the load: %v; want the deleted key accepted, as plain deletion from the cache does", after)
	}
}

// TestOvertakenLoadDoesNotReplaceANewerOne: a key that was loaded after the revocation
// stays in the cache even if the overtaken load ends later.
func TestOvertakenLoadDoesNotReplaceANewerOne(t *testing.T) {
	origin, held := newOrigin(), newGate()
	digest := origin.add(realistic(1))
	origin.setAfter(held.wait)
	cache := newCache(t, origin, Options{})
	first := make(chan error, 1)
	go func() {
		_, _, err := cache.Lookup(context.Background(), digest, nil)
		first <- err
	}()
	<-held.reached
	origin.setAfter(nil)
	cache.Revoke(digest)
	wantSource(t, cache, digest, SourceStore, nil)
	held.open()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	wantSource(t, cache, digest, SourceCache, nil)
}

// TestCreatedKeyIsSeenDespiteJunkLookup: Revoke is also called when a key is
// created. After that call, lookups find the key, even if an earlier lookup found
// that it did not exist. The test checks two cases: the earlier lookup ended before
// the creation, or after it.
func TestCreatedKeyIsSeenDespiteJunkLookup(t *testing.T) {
	t.Run("ended before", func(t *testing.T) {
		origin := newOrigin()
		cache := newCache(t, origin, Options{})
		key := realistic(1)
		wantSource(t, cache, key.Digest, SourceStore, keys.ErrUnknown)
		wantSource(t, cache, key.Digest, SourceNegative, keys.ErrUnknown)
		origin.add(key)
		cache.Revoke(key.Digest)
		wantSource(t, cache, key.Digest, SourceStore, nil)
		wantSource(t, cache, key.Digest, SourceCache, nil)
	})
	t.Run("ended after", func(t *testing.T) {
		origin, held := newOrigin(), newGate()
		origin.setAfter(held.wait)
		cache := newCache(t, origin, Options{})
		key := realistic(1)
		first := make(chan error, 1)
		go func() {
			_, _, err := cache.Lookup(context.Background(), key.Digest, nil)
			first <- err
		}()
		<-held.reached
		origin.setAfter(nil)
		origin.add(key)
		cache.Revoke(key.Digest)
		held.open()
		if err := <-first; !errors.Is(err, keys.ErrUnknown) {
			t.Fatalf("the lookup from before: %v", err)
		}
		wantSource(t, cache, key.Digest, SourceStore, nil)
	})
}

// TestRevokeIsSafeAtAnyTime: Revoke and RevokeAll may be called during and after Close.
func TestRevokeIsSafeAtAnyTime(t *testing.T) {
	for i := range 10 {
		cache := newCache(t, newOrigin(), Options{Size: 100})
		var wg sync.WaitGroup
		wg.Go(func() { cache.Revoke(digestOf(i)) })
		wg.Go(cache.RevokeAll)
		cache.Close()
		wg.Wait()
		cache.Revoke(digestOf(i))
	}
}

// TestNarrownessTellsEveryStepApart: narrowness, which the races rely on, counts
// every narrowing.
func TestNarrownessTellsEveryStepApart(t *testing.T) {
	key := realistic(1)
	key.Scopes = []string{"billing.read", "billing.write"}
	for i, step := range narrowings {
		if got := narrowness(key); got != int64(i) {
			t.Fatalf("before %q: narrowness %d, want %d", step.name, got, i)
		}
		step.change(key)
	}
	if got := narrowness(key); got != int64(len(narrowings)) {
		t.Fatal(fmt.Sprint("at the end: narrowness ", got))
	}
}
