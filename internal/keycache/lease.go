package keycache

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// lease bounds for how long memory is believed where others change keys, too.
type lease struct {
	until time.Duration // on the cache's clock
	wall  time.Time     // and on the wall's, which goes on while a machine sleeps
}

// Clock tells the time since the cache was made, for Believe.
func (c *Cache) Clock() time.Duration { return c.clock() }

// Believe lets what is in memory be believed for that long after an instant, and
// no longer: until it is called again, lookups that begin later ask the origin.
// The instant is given on Clock and on the wall's clock, of which each may stand
// still or be set while it is waited for. Without a call memory is believed for
// as long as Options.TTL says.
//
// Who follows the changes that others make calls it with the instant at which it
// began to ask for them, after it has revoked all that it was told of. It may be
// called by one goroutine at a time.
func (c *Cache) Believe(from time.Duration, wall time.Time, forSo time.Duration) {
	c.lease.Store(&lease{until: from + forSo, wall: wall.Round(0).Add(forSo)})
}

// doubted reports whether the time for which memory is believed is over.
func (c *Cache) doubted(now time.Duration) bool {
	l := c.lease.Load()
	return l != nil && (now >= l.until || !clock.Now().Round(0).Before(l.wall))
}
