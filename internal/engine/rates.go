package engine

import (
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// rates counts the requests of lineages of keys against rates, by the generic
// cell rate algorithm (ITU-T I.371, annex A): of each bucket it keeps no more
// than the instant at which it will be full again. One that is full is as good
// as one that was never used, and is forgotten.
type rates struct {
	now func() time.Duration // since some instant; it never goes back

	mu    sync.Mutex
	full  map[rateBucket]time.Duration // when the bucket is full again
	sweep int                          // how many may be kept before the full ones are dropped
}

type rateBucket struct {
	lineage, server string
	upkeep          bool
}

// minSweep is how many buckets are kept at least before the full ones are
// looked for.
const minSweep = 1024

func newRates() *rates {
	began := clock.Now()
	return &rates{now: func() time.Duration { return clock.Since(began) }, full: make(map[rateBucket]time.Duration), sweep: minSweep}
}

// Take counts one request; see gate.Limiter.
func (r *rates) Take(lineage string, buckets [2]gate.Bucket) gate.Quota {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(lineage, buckets)
}

// Move counts one request in place of another count; see gate.Limiter.
func (r *rates) Move(lineage string, from, to [2]gate.Bucket, taken bool) gate.Quota {
	r.mu.Lock()
	defer r.mu.Unlock()
	if taken {
		for _, b := range from {
			if full, known := r.full[of(lineage, b)]; known && !b.Rate.IsZero() {
				r.full[of(lineage, b)] = full - b.Rate.Every()
			}
		}
	}
	if q := r.take(lineage, to); q.Wait > 0 {
		return q
	}
	now := r.now()
	var least gate.Quota
	for _, b := range from {
		if !b.Rate.IsZero() {
			least = lesser(least, left(b.Rate, now, r.full[of(lineage, b)]))
		}
	}
	return least
}

// take counts one request. It is called under the mutex.
func (r *rates) take(lineage string, buckets [2]gate.Bucket) gate.Quota {
	now := r.now()
	var least gate.Quota
	var next [len(buckets)]time.Duration
	for i, b := range buckets {
		if b.Rate.IsZero() {
			continue
		}
		var q gate.Quota
		q, next[i] = take(b.Rate, now, r.full[of(lineage, b)])
		least = lesser(least, q)
	}
	if least.Wait > 0 {
		return least // it counts in none
	}
	for i, b := range buckets {
		if !b.Rate.IsZero() {
			r.full[of(lineage, b)] = next[i]
		}
	}
	r.tidy(now)
	return least
}

func of(lineage string, b gate.Bucket) rateBucket { return rateBucket{lineage, b.Server, b.Upkeep} }

// lesser returns the quota of which less is left; the first may be none yet.
func lesser(least, q gate.Quota) gate.Quota {
	if least.Limit == 0 || q.Wait > least.Wait || q.Wait == least.Wait && q.Remaining < least.Remaining {
		return q
	}
	return least
}

// left returns what is left in a bucket that will be full at that instant.
func left(rate keys.Rate, now, full time.Duration) gate.Quota {
	every := rate.Every()
	depth := time.Duration(rate.Burst) * every // how long an empty bucket takes to be full
	q := gate.Quota{Rate: rate, Limit: rate.Burst, Reset: min(max(full, now), now+depth) - now}
	q.Remaining = int64((depth - q.Reset) / every)
	return q
}

// take counts a request in a bucket that will be full at that instant, and
// returns when it will be afterwards.
func take(rate keys.Rate, now, full time.Duration) (gate.Quota, time.Duration) {
	every := rate.Every()
	depth := time.Duration(rate.Burst) * every
	full = min(max(full, now), now+depth) // the rate may have been a slower one when it was set
	after := full + every
	if after <= now+depth {
		return left(rate, now, after), after
	}
	q := left(rate, now, full)
	q.Wait = after - depth - now
	return q, full
}

// tidy drops the buckets that are full again, each time that twice as many are
// kept as were left the time before.
func (r *rates) tidy(now time.Duration) {
	if len(r.full) < r.sweep {
		return
	}
	for b, at := range r.full {
		if at <= now {
			delete(r.full, b)
		}
	}
	r.sweep = max(minSweep, 2*len(r.full))
}
