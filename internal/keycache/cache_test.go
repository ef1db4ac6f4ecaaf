package keycache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestLookupAnswersFromMemory: the origin is asked only once for a key and only once
// for an unknown digest. If the hook beforeLoad fails, a miss does not ask the origin.
// A hit does not call the hook.
func TestLookupAnswersFromMemory(t *testing.T) {
	origin := newOrigin()
	known, unknown := origin.add(realistic(1)), digestOf(2)
	cache := newCache(t, origin, Options{})

	for _, d := range []keys.Digest{known, unknown} {
		if key, source, err := inMemory(cache, d); key != nil || source != SourceStore || !errors.Is(err, errNotLoaded) {
			t.Fatalf("before: %v, %v, %v; want the hook's error", key, source, err)
		}
	}
	if n := origin.total.Load(); n != 0 {
		t.Fatalf("the origin was asked %d times despite the hook's error", n)
	}
	wantSource(t, cache, known, SourceStore, nil)
	wantSource(t, cache, unknown, SourceStore, keys.ErrUnknown)
	for range 3 {
		wantSource(t, cache, known, SourceCache, nil)
		wantSource(t, cache, unknown, SourceNegative, keys.ErrUnknown)
	}
	if key, source, err := inMemory(cache, known); key == nil || source != SourceCache || err != nil {
		t.Errorf("cached: %v, %v, %v", key, source, err)
	}
	if key, source, err := inMemory(cache, unknown); key != nil || source != SourceNegative || !errors.Is(err, keys.ErrUnknown) {
		t.Errorf("cached: %v, %v, %v", key, source, err)
	}
	if origin.questions(known) != 1 || origin.questions(unknown) != 1 {
		t.Errorf("asked %d and %d times, want once each", origin.questions(known), origin.questions(unknown))
	}
}

// TestKeysThatMayNothingAreCachedToo: deleted, disabled and expired keys are cached
// like usable ones, and Check refuses them.
func TestKeysThatMayNothingAreCachedToo(t *testing.T) {
	origin := newOrigin()
	cache := newCache(t, origin, Options{})
	for i, step := range narrowings {
		key := realistic(i)
		key.Scopes = nil
		step.change(key)
		origin.add(key)
		wantSource(t, cache, key.Digest, SourceStore, nil)
		wantSource(t, cache, key.Digest, SourceCache, nil)
		if err := mustLookup(t, cache, key.Digest).Check(raceTime, writeUse); !errors.Is(err, step.seen) {
			t.Errorf("%s: check says %v", step.name, err)
		}
	}
}

// TestExpiryNeedsNoReload: a key that expires while it is cached is refused from that
// instant on, because Check compares times at every use.
func TestExpiryNeedsNoReload(t *testing.T) {
	origin, clk := newOrigin(), &fakeClock{}
	key := realistic(1)
	key.ExpiresAt = clk.now().Add(10 * time.Second)
	origin.add(key)
	cache := newCache(t, origin, Options{Now: clk.now})
	if err := mustLookup(t, cache, key.Digest).Check(clk.now(), keys.Use{}); err != nil {
		t.Fatal(err)
	}
	clk.advance(10 * time.Second)
	if err := mustLookup(t, cache, key.Digest).Check(clk.now(), keys.Use{}); !errors.Is(err, keys.ErrExpired) {
		t.Errorf("at its expiry: %v", err)
	}
	if n := origin.questions(key.Digest); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// TestAnswersEndWithTheirTime: a cached key is used for exactly TTL, and a cached
// unknown digest for exactly NegativeTTL.
func TestAnswersEndWithTheirTime(t *testing.T) {
	origin, clk := newOrigin(), &fakeClock{}
	known, unknown := origin.add(realistic(1)), digestOf(2)
	cache := newCache(t, origin, Options{TTL: time.Minute, NegativeTTL: 5 * time.Second, Now: clk.now})
	wantSource(t, cache, known, SourceStore, nil)
	wantSource(t, cache, unknown, SourceStore, keys.ErrUnknown)

	clk.advance(5*time.Second - 1)
	wantSource(t, cache, unknown, SourceNegative, keys.ErrUnknown)
	clk.advance(1)
	wantSource(t, cache, unknown, SourceStore, keys.ErrUnknown)
	clk.advance(55*time.Second - 1)
	wantSource(t, cache, known, SourceCache, nil)
	clk.advance(1)
	wantSource(t, cache, known, SourceStore, nil)
	wantSource(t, cache, known, SourceCache, nil)
}

// TestAgeCountsFromTheQuestion: the age of an answer counts from the start of its load,
// so a slow origin does not prolong the use of its answers.
func TestAgeCountsFromTheQuestion(t *testing.T) {
	origin, clk := newOrigin(), &fakeClock{}
	digest := origin.add(realistic(1))
	origin.setAfter(func(context.Context, keys.Digest) error { clk.advance(50 * time.Second); return nil })
	cache := newCache(t, origin, Options{TTL: time.Minute, Now: clk.now})
	wantSource(t, cache, digest, SourceStore, nil)
	clk.advance(10*time.Second - 1)
	wantSource(t, cache, digest, SourceCache, nil)
	clk.advance(1)
	wantSource(t, cache, digest, SourceStore, nil)
}

// TestOriginErrorsAreNeverCached: after an error the origin is asked again, and an
// error never replaces or hides a cached answer. (This is a part of promise 8 of
// docs/promises.md: an error does not mean that a key is unknown.)
func TestOriginErrorsAreNeverCached(t *testing.T) {
	origin := newOrigin()
	known, unknown := origin.add(realistic(1)), digestOf(2)
	down := errors.New("store is down")
	origin.setAfter(func(context.Context, keys.Digest) error { return down })
	cache := newCache(t, origin, Options{})
	for range 3 {
		wantSource(t, cache, known, SourceStore, down)
		wantSource(t, cache, unknown, SourceStore, down)
	}
	if a, b := origin.questions(known), origin.questions(unknown); a != 3 || b != 3 {
		t.Errorf("asked %d and %d times, want 3 each", a, b)
	}
	if cache.Len() != 0 {
		t.Errorf("%d entries", cache.Len())
	}
	origin.setAfter(nil)
	wantSource(t, cache, known, SourceStore, nil)
	wantSource(t, cache, unknown, SourceStore, keys.ErrUnknown)
	origin.setAfter(func(context.Context, keys.Digest) error { return down })
	wantSource(t, cache, known, SourceCache, nil)
}

// originFunc adapts a function to Origin.
type originFunc func(context.Context, keys.Digest) (*keys.Key, error)

func (f originFunc) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	return f(ctx, d)
}

// TestOriginThatMisbehavesIsAnError: a malformed answer or a panic is an error
// and does not crash the process.
func TestOriginThatMisbehavesIsAnError(t *testing.T) {
	for name, f := range map[string]originFunc{
		"neither key nor error": func(context.Context, keys.Digest) (*keys.Key, error) { return nil, nil },
		"another digest":        func(context.Context, keys.Digest) (*keys.Key, error) { return realistic(2), nil },
		"panicked":              func(context.Context, keys.Digest) (*keys.Key, error) { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			cache := newCache(t, f, Options{})
			for range 2 {
				key, source, err := cache.Lookup(context.Background(), digestOf(1), nil)
				if key != nil || source != SourceStore || err == nil || errors.Is(err, keys.ErrUnknown) {
					t.Fatalf("lookup: %v, %v, %v", key, source, err)
				}
				if !strings.Contains(err.Error(), name) {
					t.Errorf("error %q does not say %q", err, name)
				}
			}
		})
	}
}

// TestUnknownIsNeverWrapped: Lookup returns keys.ErrUnknown itself, even if the origin
// wrapped it.
func TestUnknownIsNeverWrapped(t *testing.T) {
	cache := newCache(t, originFunc(func(context.Context, keys.Digest) (*keys.Key, error) {
		return nil, fmt.Errorf("select: %w", keys.ErrUnknown)
	}), Options{})
	for range 2 {
		if _, _, err := cache.Lookup(context.Background(), digestOf(1), nil); !errors.Is(err, keys.ErrUnknown) {
			t.Errorf("error %v", err)
		}
	}
}

// TestOneLoadForManyCallers: 64 concurrent lookups of one digest ask the origin only
// once, and all get the answer.
func TestOneLoadForManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, held := newOrigin(), newGate()
		digest := origin.add(realistic(1))
		origin.setAfter(held.waitOrEnd)
		cache := newCache(t, origin, Options{})
		var answered atomic.Int64
		var callers sync.WaitGroup
		for range 64 {
			callers.Go(func() {
				mustLookup(t, cache, digest)
				answered.Add(1)
			})
		}
		synctest.Wait() // until all callers wait for the origin
		if answered.Load() != 0 {
			t.Fatal("answered before the origin was")
		}
		held.open()
		callers.Wait()
		if n := origin.questions(digest); n != 1 || answered.Load() != 64 {
			t.Errorf("%d questions for %d answers, want 1 for 64", n, answered.Load())
		}
	})
}

// TestCallerThatLeavesDoesNotEndTheLoad: if the caller that started a load gives up,
// the other callers still get the answer, and it is cached.
func TestCallerThatLeavesDoesNotEndTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, held := newOrigin(), newGate()
		digest := origin.add(realistic(1))
		origin.setAfter(held.waitOrEnd)
		cache := newCache(t, origin, Options{})
		ctx, leave := context.WithCancel(context.Background())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, _, err := cache.Lookup(ctx, digest, nil); first <- err }()
		synctest.Wait()
		go func() { _, _, err := cache.Lookup(context.Background(), digest, nil); second <- err }()
		synctest.Wait()
		leave()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
		held.open()
		if err := <-second; err != nil {
			t.Errorf("the one who stayed: %v", err)
		}
		wantSource(t, cache, digest, SourceCache, nil)
		if n := origin.questions(digest); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestCallerThatHasLeftAsksNothing: a lookup does not start a load after its context
// has ended, but still returns a cached key.
func TestCallerThatHasLeftAsksNothing(t *testing.T) {
	origin := newOrigin()
	digest := origin.add(realistic(1))
	cache := newCache(t, origin, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := cache.Lookup(ctx, digest, nil); !errors.Is(err, context.Canceled) || origin.total.Load() != 0 {
		t.Errorf("error %v after %d questions", err, origin.total.Load())
	}
	mustLookup(t, cache, digest)
	if _, source, err := cache.Lookup(ctx, digest, nil); err != nil || source != SourceCache {
		t.Errorf("source %v, error %v", source, err)
	}
}

// TestLoadTimeout: a lookup without a deadline ends after LoadTimeout, even if the
// origin ignores its context. An origin that recovers is asked again.
func TestLoadTimeout(t *testing.T) {
	heeds, heedless := (*gate).waitOrEnd, (*gate).wait
	for name, wait := range map[string]func(*gate, context.Context, keys.Digest) error{"heeds": heeds, "does not heed": heedless} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin, held := newOrigin(), newGate()
				digest := origin.add(realistic(1))
				origin.setAfter(func(ctx context.Context, d keys.Digest) error { return wait(held, ctx, d) })
				cache := newCache(t, origin, Options{LoadTimeout: 3 * time.Second})
				began := clock.Now()
				_, _, err := cache.Lookup(context.Background(), digest, nil)
				if !errors.Is(err, context.DeadlineExceeded) || clock.Since(began) != 3*time.Second {
					t.Errorf("error %v after %v", err, clock.Since(began))
				}
				held.open()
				origin.setAfter(nil)
				synctest.Wait()
				mustLookup(t, cache, digest)
			})
		})
	}
}

// TestHungOriginIsAskedOnce: while a load hangs, further lookups of its digest do not
// start another load, so the number of stuck goroutines is bounded.
func TestHungOriginIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, held := newOrigin(), newGate()
		digest := origin.add(realistic(1))
		origin.setAfter(held.wait)
		cache := newCache(t, origin, Options{})
		for range 10 {
			wantSource(t, cache, digest, SourceStore, context.DeadlineExceeded)
		}
		if n := origin.questions(digest); n != 1 {
			t.Errorf("asked %d times", n)
		}
		held.open()
	})
}

// TestSameSlotNeverMixesKeys: lookups of digests that share a slot and a generation
// never return each other's keys. An unknown digest gets no key from a shared slot.
func TestSameSlotNeverMixesKeys(t *testing.T) {
	one, two, unknown := realistic(1), realistic(2), digestOf(3)
	copy(two.Digest[:16], one.Digest[:16])
	copy(unknown[:16], one.Digest[:16])
	origin := newOrigin()
	origin.add(one)
	origin.add(two)
	cache := newCache(t, origin, Options{})
	for range 5 {
		for _, want := range []*keys.Key{one, two} {
			if got := mustLookup(t, cache, want.Digest); got.ID != want.ID {
				t.Fatalf("got key %s, want %s", got.ID, want.ID)
			}
		}
		if key, _, err := cache.Lookup(context.Background(), unknown, nil); key != nil || !errors.Is(err, keys.ErrUnknown) {
			t.Fatalf("unknown digest: key %v, error %v", key != nil, err)
		}
	}
}

// TestRevokeAll: after RevokeAll, every key and every unknown digest is loaded again
// only once.
func TestRevokeAll(t *testing.T) {
	origin := newOrigin()
	cache := newCache(t, origin, Options{})
	for i := range 100 {
		mustLookup(t, cache, origin.add(realistic(i)))
		wantSource(t, cache, digestOf(1000+i), SourceStore, keys.ErrUnknown)
	}
	cache.RevokeAll()
	for i := range 100 {
		wantSource(t, cache, digestOf(i), SourceStore, nil)
		wantSource(t, cache, digestOf(1000+i), SourceStore, keys.ErrUnknown)
		wantSource(t, cache, digestOf(i), SourceCache, nil)
		wantSource(t, cache, digestOf(1000+i), SourceNegative, keys.ErrUnknown)
	}
}

// TestRevokeTouchesFewOthers: a revocation makes at most two other keys load again.
func TestRevokeTouchesFewOthers(t *testing.T) {
	cache, digests := warm(t, 2000)
	cache.Revoke(digests[0])
	missed := 0
	for _, d := range digests {
		if _, _, err := inMemory(cache, d); err != nil {
			missed++
		}
	}
	if missed < 1 || missed > 3 {
		t.Errorf("%d of %d keys must be loaded again, want hardly more than the one", missed, len(digests))
	}
}

// TestSourceNames: the names of the sources never change, because they are labels of
// metrics.
func TestSourceNames(t *testing.T) {
	if got := fmt.Sprint(SourceCache, SourceNegative, SourceStore); got != "cache negative store" {
		t.Error(got)
	}
}
