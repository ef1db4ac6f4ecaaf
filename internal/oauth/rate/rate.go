// Package rate bounds how often strangers may cause something, by name: a network, a host
// or a client. It takes the time from its caller.
package rate

import (
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/recent"
)

// remembered is the number of names that a Limiter remembers at least.
const remembered = 10_000

// Limiter admits a number of events of a name at once, and later one event in each
// interval. Its memory is bounded: the events of a name that has been silent for long may
// be forgotten. It is safe for concurrent use.
type Limiter struct {
	every time.Duration
	burst int

	mu   sync.Mutex
	next *recent.Map[string, time.Time] // when all earlier events of the name are paid for
}

// New returns a limiter that admits burst events of a name at once, and one event in each
// interval.
func New(every time.Duration, burst int) *Limiter {
	return &Limiter{every: every, burst: burst, next: recent.New[string, time.Time](remembered)}
}

// Take counts an event. It returns 0, or how long to wait if the event comes too soon. The
// event is then not counted.
func (l *Limiter) Take(name string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := time.Duration(l.burst) * l.every
	next, _ := l.next.Get(name)
	switch {
	case next.Before(now):
		next = now
	case next.Sub(now) > most: // the clock was set back
		next = now.Add(most)
		l.next.Put(name, next)
	}
	next = next.Add(l.every)
	if over := next.Sub(now) - most; over > 0 {
		return over
	}
	l.next.Put(name, next)
	return 0
}
