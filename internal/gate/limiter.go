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
}

// Bucket is what requests are counted in: those at one server, or with no
// server's name those at all together.
type Bucket struct {
	Server string
	Rate   keys.Rate
}

// Quota is what is left of a rate after a request; of several rates, of the one
// of which least is left.
type Quota struct {
	Limit     int64         // how many requests may come at once after a pause; 0 if there is no rate
	Remaining int64         // how many more may come now
	Reset     time.Duration // until as many as Limit may come
	Wait      time.Duration // until the request may come, which did not count; 0 if it did
}

// Count counts a request of the key against its own rate and the server's. It
// is to be called once for each request. The quota is there with a refusal, too.
func (g *Gate) Count(key *keys.Key) (Quota, *Refusal) {
	buckets := [2]Bucket{{Server: g.policy.Server, Rate: g.policy.Rate}}
	if key.Limits != nil && !key.Limits.Rate.IsZero() {
		if err := key.Limits.Rate.Check(); err != nil { // it comes from a database
			return Quota{}, &Refusal{Code: PlatformUnavailable, Cause: fmt.Errorf("the rate of key %s: %w", key.ID, err)}
		}
		buckets[1].Rate = key.Limits.Rate
	}
	if buckets[0].Rate.IsZero() && buckets[1].Rate.IsZero() {
		return Quota{}, nil
	}
	q := g.Limiter.Take(key.Lineage, buckets)
	if q.Wait > 0 {
		return q, &Refusal{Code: RateLimited, Often: true, RetryAfter: q.Wait}
	}
	return q, nil
}
