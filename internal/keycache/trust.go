package keycache

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// trust is the time until which cached answers may be used. It matters when other
// processes can change keys. Trust has lapsed as soon as one of its two deadlines
// has passed.
type trust struct {
	deadline time.Duration // on the cache's clock
	wall     time.Time     // on the wall clock, which runs on while the machine sleeps
}

// Clock returns the time since New, for ExtendTrust.
func (c *Cache) Clock() time.Duration { return c.clock() }

// ExtendTrust allows the use of cached answers for the duration ttl. The caller gives
// the beginning of that duration twice: as a result of Clock, and as the time of day.
// When the duration is over, lookups ask the origin until the next call of ExtendTrust.
// Both clocks are needed because Clock may stop while the machine sleeps, and the wall
// clock may be set. Before the first call, only Options.TTL limits the use of cached
// answers.
//
// ExtendTrust is for a process that polls for key changes made by other processes.
// After each poll it revokes the changed keys, and then passes the instant at which
// the poll began. Calls must not overlap.
func (c *Cache) ExtendTrust(from time.Duration, wall time.Time, ttl time.Duration) {
	c.trust.Store(&trust{deadline: from + ttl, wall: wall.Round(0).Add(ttl)})
}

// Trusted reports whether cached answers may be used now; see ExtendTrust.
func (c *Cache) Trusted() bool { return !c.trustLapsed(c.clock()) }

// trustLapsed reports whether cached answers may no longer be used.
func (c *Cache) trustLapsed(now time.Duration) bool {
	t := c.trust.Load()
	return t != nil && (now >= t.deadline || !clock.Now().Round(0).Before(t.wall))
}
