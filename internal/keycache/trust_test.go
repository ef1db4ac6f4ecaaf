package keycache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestLapsedLeaseDoubtsMemory: after trust has lapsed (see Cache.ExtendTrust), every
// lookup asks the origin, for cached keys and for digests cached as unknown. The hook
// is called as beforeLoad(true) only for cached keys. ExtendTrust makes later answers
// cacheable again.
func TestLapsedLeaseDoubtsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, mine := newOrigin(), realistic(1)
		cache := newCache(t, origin, Options{})
		digest := origin.add(mine)
		unknown := keys.Digest{7}
		cache.ExtendTrust(cache.Clock(), clock.Now(), 2*time.Second)
		mustLookup(t, cache, digest)
		if _, _, err := cache.Lookup(t.Context(), unknown, nil); !errors.Is(err, keys.ErrUnknown) {
			t.Fatal(err)
		}
		source := func(d keys.Digest) Source { _, s, _ := cache.Lookup(t.Context(), d, nil); return s }
		time.Sleep(2*time.Second - 1)
		if source(digest) != SourceCache || source(unknown) != SourceNegative {
			t.Error("trust lapsed too early")
		}
		time.Sleep(time.Nanosecond)
		for range 2 {
			if source(digest) != SourceStore || source(unknown) != SourceStore {
				t.Error("memory answered after trust had lapsed")
			}
		}
		for d, want := range map[keys.Digest]bool{digest: true, unknown: false} {
			hook := func(stale bool) error {
				if stale != want {
					t.Errorf("stale is %v, want %v", stale, want)
				}
				return errNotLoaded
			}
			if _, _, err := cache.Lookup(t.Context(), d, hook); !errors.Is(err, errNotLoaded) {
				t.Errorf("error %v, want the hook's", err)
			}
		}
		cache.ExtendTrust(cache.Clock(), clock.Now(), 2*time.Second)
		mustLookup(t, cache, digest)
		if source(digest) != SourceCache {
			t.Error("extending trust does not make memory usable")
		}
		cache.ExtendTrust(cache.Clock()-3*time.Second, clock.Now().Add(-3*time.Second), 2*time.Second)
		if source(digest) != SourceStore {
			t.Error("an extension that came too late was accepted")
		}
	})
}

// slow is an origin that answers only when the test sends a key to answer with.
type slow struct {
	asked  chan struct{}
	answer chan *keys.Key
}

func (s *slow) KeyByDigest(ctx context.Context, _ keys.Digest) (*keys.Key, error) {
	s.asked <- struct{}{}
	return <-s.answer, nil
}

// TestLapsedLeaseJoinsNoOlderQuestion: after trust has lapsed (see Cache.ExtendTrust),
// a lookup does not join a load in flight, because another process may have deleted the
// key after that load began.
func TestLapsedLeaseJoinsNoOlderQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := &slow{asked: make(chan struct{}, 2), answer: make(chan *keys.Key)}
		cache := newCache(t, origin, Options{})
		cache.ExtendTrust(cache.Clock(), clock.Now(), time.Second)
		time.Sleep(time.Second)
		mine := realistic(1)
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, _, err := cache.Lookup(t.Context(), mine.Digest, nil)
				results <- err
			}()
			synctest.Wait()
		}
		if len(origin.asked) != 2 {
			t.Errorf("%d questions for two lookups", len(origin.asked))
		}
		for range 2 {
			origin.answer <- mine
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLeaseEndsWhileTheMachineSleeps: trust (see Cache.ExtendTrust) lapses even if the
// monotonic clock stops while the machine sleeps, because the wall clock runs on. It
// makes no difference whether the machine sleeps before or after ExtendTrust is called.
func TestLeaseEndsWhileTheMachineSleeps(t *testing.T) {
	for _, sleeps := range []string{"before the answer is heeded", "after it"} {
		t.Run(sleeps, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stands := clock.Now()
				origin, mine := newOrigin(), realistic(1)
				cache := newCache(t, origin, Options{Now: func() time.Time { return stands }})
				digest := origin.add(mine)
				asked, wall := cache.Clock(), clock.Now()
				if sleeps == "after it" {
					cache.ExtendTrust(asked, wall, 2*time.Second)
				}
				time.Sleep(time.Hour)
				if sleeps != "after it" {
					cache.ExtendTrust(asked, wall, 2*time.Second)
				}
				for range 2 {
					if _, source, _ := cache.Lookup(t.Context(), digest, nil); source != SourceStore {
						t.Error("memory answered long after trust had lapsed")
					}
				}
			})
		})
	}
}
