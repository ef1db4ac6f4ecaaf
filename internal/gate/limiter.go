package gate

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Limiter counts the requests of keys against rates. Keys are told apart by
// their lineage: a rotation resets nothing. It must be fast and safe for
// concurrent use.
type Limiter interface {
	// Take counts one request of the lineage in each bucket, or in none if one
	// of them is empty. A bucket without a rate is none.
	Take(lineage string, buckets [2]Bucket) Quota

	// Move is Take in the buckets to, of a request that was counted in the buckets
	// from, if taken says so: that is given back in any case. The quota is what is
	// left in from, unless the request has to wait.
	Move(lineage string, from, to [2]Bucket, taken bool) Quota
}

// Bucket is what requests are counted in: those at one server, or with no
// server's name those at all together.
type Bucket struct {
	Server string
	Upkeep bool // those that are upkeep alone; else all others
	Rate   keys.Rate
}

// Quota is what is left of a rate after a request; of several rates, of the one
// of which least is left.
type Quota struct {
	Rate      keys.Rate     // zero if there is none
	Limit     int64         // how many requests may come at once after a pause; 0 if there is no rate
	Remaining int64         // how many more may come now
	Reset     time.Duration // until as many as Limit may come
	Wait      time.Duration // until the request may come, which did not count; 0 if it did
}

// Count counts a request of the key against its own rate and the server's. It
// is to be called once for each request. The quota is there with a refusal, too.
func (g *Gate) Count(key *keys.Key) (Quota, *Refusal) {
	buckets, refusal := g.buckets(key)
	if refusal != nil || buckets[0].Rate.IsZero() && buckets[1].Rate.IsZero() {
		return Quota{}, refusal
	}
	return counted(g.Limiter.Take(key.Lineage, buckets))
}

// CountUpkeep counts a request that turned out to be upkeep (see mcp.IsUpkeep)
// apart from others, so that a client whose calls are used up can still connect,
// see what there is, and be told. Taken says that Count has counted it. The quota
// is that of the other requests, unless upkeep itself came too often.
func (g *Gate) CountUpkeep(key *keys.Key, taken bool) (Quota, *Refusal) {
	buckets, refusal := g.buckets(key)
	if refusal != nil || buckets[0].Rate.IsZero() && buckets[1].Rate.IsZero() {
		return Quota{}, refusal
	}
	upkeep := buckets
	for i := range upkeep {
		upkeep[i].Upkeep, upkeep[i].Rate = true, upkeepRate(buckets[i].Rate)
	}
	return counted(g.Limiter.Move(key.Lineage, buckets, upkeep, taken))
}

// upkeepTimes is how many requests of upkeep come with a call, at the most: some
// clients begin a session for each call, list all there is, and end it.
const upkeepTimes = 10

// leastUpkeep lets a few clients connect at once, however small the rate is.
var leastUpkeep = keys.Rate{Requests: 60, Per: time.Minute, Burst: 60}

// upkeepRate is the rate of upkeep that goes with a rate: zero with zero.
func upkeepRate(r keys.Rate) keys.Rate {
	if r.IsZero() {
		return r
	}
	r.Requests, r.Burst = r.Requests*upkeepTimes, r.Burst*upkeepTimes
	if r.Every() > leastUpkeep.Every() {
		r.Requests, r.Per = leastUpkeep.Requests, leastUpkeep.Per
	}
	r.Burst = max(r.Burst, leastUpkeep.Burst)
	return r
}

// buckets returns those that the key's requests count in.
func (g *Gate) buckets(key *keys.Key) ([2]Bucket, *Refusal) {
	buckets := [2]Bucket{{Server: g.policy.Server, Rate: g.policy.Rate}}
	if key.Limits != nil && !key.Limits.Rate.IsZero() {
		if err := key.Limits.Rate.Check(); err != nil { // it comes from a database
			return buckets, &Refusal{Code: StoreUnavailable, Cause: fmt.Errorf("the rate of key %s: %w", key.ID, err)}
		}
		buckets[1].Rate = key.Limits.Rate
	}
	return buckets, nil
}

func counted(q Quota) (Quota, *Refusal) {
	if q.Wait > 0 {
		return q, &Refusal{Code: RateLimited, Often: true, RetryAfter: q.Wait}
	}
	return q, nil
}
