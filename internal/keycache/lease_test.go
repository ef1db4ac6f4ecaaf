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

// TestLapsedLeaseDoubtsMemory: once the time is over for which memory may be
// believed, every lookup asks the origin, of known keys and of unknown ones; what
// was asked before is not waited for; renewing it brings memory back.
func TestLapsedLeaseDoubtsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, mine := newOrigin(), realistic(1)
		cache := newCache(t, origin, Options{})
		digest := origin.add(mine)
		unknown := keys.Digest{7}
		cache.Believe(cache.Clock(), clock.Now(), 2*time.Second)
		mustLookup(t, cache, digest)
		if _, _, err := cache.Lookup(t.Context(), unknown); !errors.Is(err, keys.ErrUnknown) {
			t.Fatal(err)
		}
		source := func(d keys.Digest) Source { _, s, _ := cache.Lookup(t.Context(), d); return s }
		time.Sleep(2*time.Second - 1)
		if source(digest) != SourceCache || source(unknown) != SourceNegative {
			t.Error("memory was doubted too early")
		}
		time.Sleep(time.Nanosecond)
		for range 2 {
			if source(digest) != SourceStore || source(unknown) != SourceStore {
				t.Error("memory was believed after its time")
			}
		}
		if _, _, err := cache.Cached(digest); !errors.Is(err, ErrStale) {
			t.Errorf("a key that was known is told from one that was not: %v", err)
		}
		cache.Believe(cache.Clock(), clock.Now(), 2*time.Second)
		mustLookup(t, cache, digest)
		if source(digest) != SourceCache {
			t.Error("a lease that is renewed brings nothing back")
		}
		cache.Believe(cache.Clock()-3*time.Second, clock.Now().Add(-3*time.Second), 2*time.Second)
		if source(digest) != SourceStore {
			t.Error("a lease that came too late was taken")
		}
	})
}

// slow is an origin that answers when it is told to.
type slow struct {
	asked  chan struct{}
	answer chan *keys.Key
}

func (s *slow) KeyByDigest(ctx context.Context, _ keys.Digest) (*keys.Key, error) {
	s.asked <- struct{}{}
	return <-s.answer, nil
}

// TestLapsedLeaseJoinsNoOlderQuestion: a key may have been deleted elsewhere
// after a question was put and before this lookup began.
func TestLapsedLeaseJoinsNoOlderQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := &slow{asked: make(chan struct{}, 2), answer: make(chan *keys.Key)}
		cache := newCache(t, origin, Options{})
		cache.Believe(cache.Clock(), clock.Now(), time.Second)
		time.Sleep(time.Second)
		mine := realistic(1)
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, _, err := cache.Lookup(t.Context(), mine.Digest)
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

// TestLeaseEndsWhileTheMachineSleeps: the clock that counts a lease may stand
// still while a machine sleeps, be it while the lease is asked for; the wall's
// goes on, and so did the keys of others.
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
					cache.Believe(asked, wall, 2*time.Second)
				}
				time.Sleep(time.Hour)
				if sleeps != "after it" {
					cache.Believe(asked, wall, 2*time.Second)
				}
				for range 2 {
					if _, source, _ := cache.Lookup(t.Context(), digest); source != SourceStore {
						t.Error("memory was believed long after its time")
					}
				}
			})
		})
	}
}
