package engine

import (
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/recent"
)

// If a client abandons a call before it gets the response, the server has worked in
// vain. But some clients have good reasons to abandon a call now and then. So a key is
// refused only while it has abandoned many calls within a short time.
const (
	// maxAbandoned is the number of calls that a key may abandon within
	// abandonedWindow. After that, its paid calls are refused until the oldest of these
	// calls lies outside the window.
	maxAbandoned    = 10
	abandonedWindow = time.Minute
	// maxLineages bounds the memory for lineages: at most 2 * maxLineages lineages are
	// remembered.
	maxLineages = 1 << 14
)

// abandoned remembers when calls were abandoned, by the lineage of the calling key.
type abandoned struct {
	now func() time.Time

	mu    sync.Mutex
	times *recent.Map[string, *recentTimes]
}

// recentTimes is a ring buffer of the times at which a key last abandoned calls. A
// zero time marks an unused entry.
type recentTimes struct {
	at   [maxAbandoned]time.Time
	next int // index of the oldest time
}

func newAbandoned(now func() time.Time) *abandoned {
	return &abandoned{now: now, times: recent.New[string, *recentTimes](maxLineages)}
}

// Note counts one abandoned call.
func (a *abandoned) Note(lineage string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	times, ok := a.times.Get(lineage)
	if !ok {
		times = new(recentTimes)
	}
	a.times.Put(lineage, times)
	times.at[times.next] = a.now()
	times.next = (times.next + 1) % maxAbandoned
}

// Forgive undoes the newest Note of the lineage. It is called when the client of an
// abandoned call has fetched the response after all.
func (a *abandoned) Forgive(lineage string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	times, ok := a.times.Get(lineage)
	if !ok {
		return
	}
	newest := (times.next + maxAbandoned - 1) % maxAbandoned
	if !times.at[newest].IsZero() {
		times.at[newest] = time.Time{}
		times.next = newest
	}
}

// Wait returns how long the key is still refused, or zero if the key is not refused.
func (a *abandoned) Wait(lineage string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	times, ok := a.times.Get(lineage)
	if !ok || times.at[times.next].IsZero() {
		return 0
	}
	return max(0, abandonedWindow-a.now().Sub(times.at[times.next]))
}
