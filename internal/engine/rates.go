package engine

import (
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// rates limits the requests of key lineages, by the generic cell rate algorithm
// (ITU-T I.371, annex A). The only state of a bucket is the instant at which it will
// be full again. A full bucket is the same as an unused one, so it can be dropped.
type rates struct {
	now func() time.Duration // the monotonic time since an arbitrary instant

	mu      sync.Mutex
	full    map[rateBucket]time.Duration // for each bucket, the time at which it will be full again
	sweepAt int                          // number of buckets at which r.sweep drops the full ones
}

type rateBucket struct {
	lineage, server string
	upkeep          bool
}

// minSweep is the smallest number of buckets that triggers a sweep.
const minSweep = 1024

// uptime returns a monotonic clock that starts at zero.
func uptime() func() time.Duration {
	began := clock.Now()
	return func() time.Duration { return clock.Since(began) }
}

func newRates() *rates {
	return &rates{now: uptime(), full: make(map[rateBucket]time.Duration), sweepAt: minSweep}
}

// Take counts one request; see gate.Limiter.
func (r *rates) Take(lineage string, buckets [2]gate.Bucket) gate.Quota {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(lineage, buckets)
}

// Move counts one request in other buckets than before; see gate.Limiter.
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

// take counts one request. r.mu must be locked.
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
		return least // the request counts in neither bucket
	}
	for i, b := range buckets {
		if !b.Rate.IsZero() {
			r.full[of(lineage, b)] = next[i]
		}
	}
	r.sweep(now)
	return least
}

func of(lineage string, b gate.Bucket) rateBucket { return rateBucket{lineage, b.Server, b.Upkeep} }

// lesser returns the more exhausted of two quotas. The first may be the zero Quota.
func lesser(least, q gate.Quota) gate.Quota {
	if least.Limit == 0 || q.Wait > least.Wait || q.Wait == least.Wait && q.Remaining < least.Remaining {
		return q
	}
	return least
}

// left returns the quota of a bucket. full is the instant at which the bucket will be
// full again.
func left(rate keys.Rate, now, full time.Duration) gate.Quota {
	every := rate.Every()
	depth := time.Duration(rate.Burst) * every // the time in which an empty bucket fills
	q := gate.Quota{Rate: rate, Limit: rate.Burst, Reset: min(max(full, now), now+depth) - now}
	q.Remaining = int64((depth - q.Reset) / every)
	return q
}

// take counts a request in a bucket. full is the instant at which the bucket will be
// full again; take also returns the new instant. If the quota has a Wait, the request
// was not counted. To undo a counted request, subtract rate.Every() from the instant.
func take(rate keys.Rate, now, full time.Duration) (gate.Quota, time.Duration) {
	every := rate.Every()
	depth := time.Duration(rate.Burst) * every
	full = min(max(full, now), now+depth) // full may have been computed for a slower rate
	after := full + every
	if after <= now+depth {
		return left(rate, now, after), after
	}
	q := left(rate, now, full)
	q.Wait = after - depth - now
	return q, full
}

// sweep drops full buckets whenever the number of buckets has doubled since the
// last sweep.
func (r *rates) sweep(now time.Duration) {
	if len(r.full) < r.sweepAt {
		return
	}
	for b, at := range r.full {
		if at <= now {
			delete(r.full, b)
		}
	}
	r.sweepAt = max(minSweep, 2*len(r.full))
}
