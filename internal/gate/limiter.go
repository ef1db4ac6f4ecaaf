package gate

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Limiter counts the requests of keys against rates. It counts by lineage, so that
// rotating a key does not reset the count. It must be fast and safe for concurrent
// use.
type Limiter interface {
	// Take counts one request of the lineage in both buckets. If one bucket is
	// exhausted, Take counts the request in neither. Buckets without a rate are
	// ignored.
	Take(lineage string, buckets [2]Bucket) Quota

	// Move counts a request in new buckets instead of old ones. If taken is true, the
	// request was already counted in the old buckets; Move then removes the request
	// from the old buckets, even if the new buckets are exhausted. Move returns the
	// quota of the old buckets, or the quota of the new buckets if the request has to
	// wait.
	Move(lineage string, from, to [2]Bucket, taken bool) Quota
}

// Bucket counts requests to one server, or to all servers if Server is "". Upkeep means
// requests that only open and keep up a connection; see mcp.IsUpkeep.
type Bucket struct {
	Server string
	Upkeep bool // counts upkeep requests only; if false, all other requests
	Rate   keys.Rate
}

// Quota is the remainder of a rate after a request. If several rates apply, it is the
// quota of the rate that is nearest to its limit.
type Quota struct {
	Rate      keys.Rate     // zero without a rate
	Limit     int64         // requests that are allowed at once after a pause; 0 without a rate
	Remaining int64         // requests that are allowed now
	Reset     time.Duration // time until Remaining is back to Limit
	Wait      time.Duration // time until a refused request may be repeated; 0 if the request was counted
}

// Count counts a request of the caller against the caller's own rate and the server's.
// Call Count once per request. If the request exceeds a rate, Count returns the quota
// along with the refusal.
func (g *Gate) Count(caller *Caller) (Quota, *Refusal) {
	buckets, refusal := g.buckets(caller)
	if refusal != nil || buckets[0].Rate.IsZero() && buckets[1].Rate.IsZero() {
		return Quota{}, refusal
	}
	return counted(g.deps.Limiter.Take(caller.Lineage, buckets))
}

// CountUpkeep counts a request that turned out to be upkeep (see mcp.IsUpkeep). Upkeep
// is counted separately from other requests. So a client that has used up its rate can
// still connect, list the tools, and learn why its calls are refused. If taken is true,
// Count has counted the request. The returned quota is the quota of the other requests,
// or the quota of upkeep if the upkeep rate is exceeded.
func (g *Gate) CountUpkeep(caller *Caller, taken bool) (Quota, *Refusal) {
	buckets, refusal := g.buckets(caller)
	if refusal != nil || buckets[0].Rate.IsZero() && buckets[1].Rate.IsZero() {
		return Quota{}, refusal
	}
	upkeep := buckets
	for i := range upkeep {
		upkeep[i].Upkeep, upkeep[i].Rate = true, upkeepRate(buckets[i].Rate)
	}
	return counted(g.deps.Limiter.Move(caller.Lineage, buckets, upkeep, taken))
}

// upkeepTimes is the ratio of the upkeep rate to the rate of calls. It is high
// because some clients begin a session for each call, fetch every list, and end the
// session.
const upkeepTimes = 10

// leastUpkeep is the lowest upkeep rate. It lets a few clients connect at the same
// time even under a very small rate of calls.
var leastUpkeep = keys.Rate{Requests: 60, Per: time.Minute, Burst: 60}

// upkeepRate returns the upkeep rate for a rate of calls. If the rate of calls is
// zero, so is the upkeep rate.
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

// buckets returns the buckets in which the caller's requests count.
func (g *Gate) buckets(caller *Caller) ([2]Bucket, *Refusal) {
	buckets := [2]Bucket{{Server: g.policy.Server, Rate: g.policy.Rate}}
	if caller.Limits != nil && !caller.Limits.Rate.IsZero() {
		if err := caller.Limits.Rate.Check(); err != nil { // a rate from a database may be invalid
			return buckets, &Refusal{Code: StoreUnavailable, Cause: fmt.Errorf("the rate of key %s: %w", caller.Subject, err)}
		}
		buckets[1].Rate = caller.Limits.Rate
	}
	return buckets, nil
}

func counted(q Quota) (Quota, *Refusal) {
	if q.Wait > 0 {
		return q, &Refusal{Code: RateLimited, RateExceeded: true, RetryAfter: q.Wait}
	}
	return q, nil
}
