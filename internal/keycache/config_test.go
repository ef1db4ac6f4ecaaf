package keycache

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestNewRefusesBadOptions: New refuses an option that is out of bounds, and the error
// names the option and its bounds.
func TestNewRefusesBadOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"size -1: want 0 to":    {Size: -1},
		"size 10000001: want":   {Size: MaxSize + 1},
		"ttl -1ns: want":        {TTL: -1},
		"negative ttl -1ns":     {NegativeTTL: -1},
		"load timeout -1s: wan": {LoadTimeout: -time.Second},
	} {
		if _, err := New(newOrigin(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", o, err, want)
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no origin was accepted")
	}
}

// TestConfigureKeepsEntries: configuring a new size and new times loses no key, and the
// new times apply to existing entries. (This is a part of promise 11 of
// docs/promises.md.)
func TestConfigureKeepsEntries(t *testing.T) {
	const n = 500
	origin, clk := newOrigin(), &fakeClock{}
	o := Options{Size: n, TTL: time.Minute, NegativeTTL: 5 * time.Second, Now: clk.now}
	cache := newCache(t, origin, o)
	for i := range n {
		mustLookup(t, cache, origin.add(realistic(i)))
	}
	wantSource(t, cache, digestOf(-1), SourceStore, keys.ErrUnknown)

	o.Size, o.TTL, o.NegativeTTL = 2*n, 2*time.Minute, 90*time.Second
	cache.Configure(o)
	clk.advance(80 * time.Second)
	for i := range n {
		wantSource(t, cache, digestOf(i), SourceCache, nil)
	}
	wantSource(t, cache, digestOf(-1), SourceNegative, keys.ErrUnknown)
	for i := range n { // the new size has room for n keys
		mustLookup(t, cache, origin.add(realistic(n+i)))
	}
	if got := cache.Len(); got != 2*n {
		t.Errorf("%d entries, want %d", got, 2*n)
	}
	for i := range 2 * n {
		wantSource(t, cache, digestOf(i), SourceCache, nil)
	}

	o.TTL, o.NegativeTTL = 70*time.Second, time.Minute
	cache.Configure(o)
	wantSource(t, cache, digestOf(0), SourceStore, nil)
	wantSource(t, cache, digestOf(n), SourceCache, nil)
	wantSource(t, cache, digestOf(-1), SourceStore, keys.ErrUnknown)
}

// TestSizeBoundsTheCache: the cache never holds more than Size keys, neither while new
// keys arrive nor after Size was lowered.
func TestSizeBoundsTheCache(t *testing.T) {
	origin := newOrigin()
	cache := newCache(t, origin, Options{Size: 100, TTL: time.Hour})
	next := 0
	fill := func(n int) {
		for range n {
			mustLookup(t, cache, origin.add(realistic(next)))
			next++
		}
	}
	fill(1000)
	if got := cache.Len(); got < 90 || got > 100 {
		t.Errorf("%d entries, want 100", got)
	}
	for range 2 {
		cache.Configure(Options{Size: 20, TTL: time.Hour})
		if got := cache.Len(); got != 20 {
			t.Errorf("%d entries after the size was lowered, want 20", got)
		}
		fill(1000)
	}
}

// TestSurplusThatIsNotBelievedGoesFirst: when its size is lowered, a cache first evicts
// the revoked keys, which would have to be loaded again anyway.
func TestSurplusThatIsNotBelievedGoesFirst(t *testing.T) {
	cache, digests := warm(t, 400)
	for _, d := range digests[:200] {
		cache.Revoke(d)
	}
	good := 0
	for _, d := range digests {
		if _, _, err := inMemory(cache, d); err == nil {
			good++
		}
	}
	cache.Configure(Options{Size: 200, TTL: time.Hour})
	for _, d := range digests {
		if _, _, err := inMemory(cache, d); err == nil {
			good--
		}
	}
	if good != 0 || cache.Len() != 200 {
		t.Errorf("%d fresh keys were evicted, %d entries are left", good, cache.Len())
	}
}

// TestConfigureMeansDefaultsByZero: Configure replaces zero and invalid values by the
// defaults.
func TestConfigureMeansDefaultsByZero(t *testing.T) {
	cache := newCache(t, newOrigin(), Options{Size: 7, TTL: time.Hour})
	for _, o := range []Options{{}, {Size: -1, TTL: -1, NegativeTTL: -1, LoadTimeout: -1}} {
		cache.Configure(o)
		got := [...]int64{cache.entries.MaxCost(), cache.ttl.Load(), cache.negativeTTL.Load(), cache.loadTimeout.Load()}
		want := [...]int64{100_000, int64(time.Minute), int64(5 * time.Second), int64(5 * time.Second)}
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// TestConfigureUnderLoad: Configure may run concurrently with lookups. Only the race
// detector can make this test fail.
func TestConfigureUnderLoad(t *testing.T) {
	cache, digests := warm(t, 200)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 20 {
				for _, d := range digests {
					mustLookup(t, cache, d)
				}
			}
		})
	}
	for i := range 200 {
		cache.Configure(Options{Size: 1000 + i, TTL: time.Hour})
		cache.Len()
	}
	readers.Wait()
}

// TestCloseLeavesNothing: no goroutine outlives Close. Close may be called again, and
// later lookups return ErrClosed and do not panic.
func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	origin := newOrigin()
	cache, err := New(origin, Options{})
	if err != nil {
		t.Fatal(err)
	}
	digest := origin.add(realistic(1))
	mustLookup(t, cache, digest)
	cache.Close()
	cache.Close()
	goleak.VerifyNone(t, before)
	wantSource(t, cache, digest, SourceStore, ErrClosed)
	cache.Configure(Options{})
	cache.RevokeAll()
}

// TestCloseWithLoadsUnderWay: an abandoned load never writes into a closed cache, no
// matter how far the load is when the cache closes.
func TestCloseWithLoadsUnderWay(t *testing.T) {
	origin := newOrigin()
	for i := range 64 {
		origin.add(realistic(i))
	}
	for round := range 40 {
		ctx, leave := context.WithCancel(context.Background())
		begun := make(chan struct{}, 64)
		origin.setAfter(func(context.Context, keys.Digest) error { begun <- struct{}{}; return nil })
		cache := newCache(t, origin, Options{Size: 100})
		var callers sync.WaitGroup
		for i := range 64 {
			callers.Go(func() { _, _, _ = cache.Lookup(ctx, digestOf(i), nil) })
		}
		for range round % 16 {
			<-begun
		}
		leave()
		callers.Wait()
		cache.Close()
	}
}

// TestCloseDoesNotWaitForever: Close returns at once if the origin respects its
// context, and after LoadTimeout if it does not. An origin that returns after Close
// does no harm.
func TestCloseDoesNotWaitForever(t *testing.T) {
	for _, c := range []struct {
		name string
		wait func(*gate, context.Context, keys.Digest) error
		took time.Duration
	}{
		{"heeds", (*gate).waitOrEnd, 0},
		{"does not heed", (*gate).wait, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin, held := newOrigin(), newGate()
				digest := origin.add(realistic(1))
				origin.setAfter(func(ctx context.Context, d keys.Digest) error { return c.wait(held, ctx, d) })
				cache := newCache(t, origin, Options{LoadTimeout: 2 * time.Second})
				ctx, leave := context.WithCancel(context.Background())
				left := make(chan error, 1)
				go func() { _, _, err := cache.Lookup(ctx, digest, nil); left <- err }()
				<-held.reached
				leave()
				<-left
				began := clock.Now()
				cache.Close()
				if took := clock.Since(began); took != c.took {
					t.Errorf("close took %v, want %v", took, c.took)
				}
				held.open()
				synctest.Wait()
			})
		})
	}
}

// TestCountersFor: a small cache has a hundred access counters per key and a large one
// has ten. The number of counters never falls as the size grows.
func TestCountersFor(t *testing.T) {
	for size, want := range map[int]int64{1: 100, 10_000: 1_000_000, 50_000: 1 << 20, 100_000: 1 << 20, 1_000_000: 10_000_000} {
		if got := countersFor(size); got != want {
			t.Errorf("%d keys: %d counters, want %d", size, got, want)
		}
	}
	for size := 1; size < MaxSize; size = size*3/2 + 1 {
		if countersFor(size+1) < countersFor(size) {
			t.Errorf("%d keys get more counters than %d", size, size+1)
		}
	}
}
