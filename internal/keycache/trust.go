package keycache

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// trust says until when memory may answer, where other processes change keys.
type trust struct {
	deadline time.Duration // on the cache's clock
	wall     time.Time     // on the wall clock, which continues while a machine sleeps
}

// Clock returns the time since the cache was made, for ExtendTrust.
func (c *Cache) Clock() time.Duration { return c.clock() }

// ExtendTrust lets memory answer for ttl after an instant and no longer: lookups
// that begin later ask the origin, until it is called again. The instant is given
// on both Clock and the wall clock, because either may stand still or be set.
// Until the first call, Options.TTL alone bounds how long memory answers.
//
// A follower of the changes that other processes make passes the instant at which
// it began to ask for them, after it has revoked the keys that were reported.
// Calls must not overlap.
func (c *Cache) ExtendTrust(from time.Duration, wall time.Time, ttl time.Duration) {
	c.trust.Store(&trust{deadline: from + ttl, wall: wall.Round(0).Add(ttl)})
}

// trustLapsed reports whether memory may not answer any more.
func (c *Cache) trustLapsed(now time.Duration) bool {
	t := c.trust.Load()
	return t != nil && (now >= t.deadline || !clock.Now().Round(0).Before(t.wall))
}
