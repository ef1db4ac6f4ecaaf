package engine

import (
	"sync"
	"time"
)

// A key that leaves its calls before the answer has a server work for nothing.
// Some do so for good reasons, so only those that do it often are refused, for
// as long as it takes until they were not.
const (
	// maxAbandoned is how many calls a key may abandon within abandonedWindow;
	// then its paid calls are refused until the first of them is older.
	maxAbandoned    = 10
	abandonedWindow = time.Minute
	// maxLineages bounds the memory: at most twice as many keys are remembered,
	// each with ten times.
	maxLineages = 1 << 14
)

// abandoned remembers when keys have abandoned calls, by their lineage.
type abandoned struct {
	now func() time.Time

	mu       sync.Mutex
	current  map[string]*lately
	previous map[string]*lately // those before current was full
}

// lately are the last times, in a ring; the zero time stands for none.
type lately struct {
	at   [maxAbandoned]time.Time
	next int // the oldest
}

func newAbandoned(now func() time.Time) *abandoned {
	return &abandoned{now: now, current: make(map[string]*lately)}
}

// Note counts one abandoned call.
func (a *abandoned) Note(lineage string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.current[lineage]
	if !ok {
		if len(a.current) >= maxLineages {
			a.previous, a.current = a.current, make(map[string]*lately)
		}
		if l, ok = a.previous[lineage]; !ok {
			l = new(lately)
		}
		a.current[lineage] = l
	}
	l.at[l.next] = a.now()
	l.next = (l.next + 1) % maxAbandoned
}

// Forgive takes one abandoned call back: its client came for the answer.
func (a *abandoned) Forgive(lineage string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.current[lineage]
	if !ok {
		return
	}
	newest := (l.next + maxAbandoned - 1) % maxAbandoned
	if !l.at[newest].IsZero() {
		l.at[newest] = time.Time{}
		l.next = newest
	}
}

// Wait returns for how long the key is refused, zero if it is not.
func (a *abandoned) Wait(lineage string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.current[lineage]
	if !ok {
		l, ok = a.previous[lineage]
	}
	if !ok || l.at[l.next].IsZero() {
		return 0
	}
	return max(0, abandonedWindow-a.now().Sub(l.at[l.next]))
}
