package keycache

import (
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
)

// absentBound is how many digests each half of absentees holds. Twice as many
// take less than 8 MiB.
const absentBound = 1 << 15

// absentees remembers digests that the origin does not know. It is apart from
// the keys so that junk evicts only other junk. It keeps at least the last
// absentBound digests and at most twice as many: the recent half is filled, and
// once it is full it replaces the older one.
type absentees struct {
	mu     sync.RWMutex
	recent map[keys.Digest]mark
	older  map[keys.Digest]mark
}

// get returns the mark of the digest's last absence, if it is remembered.
func (a *absentees) get(digest keys.Digest) (mark, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if m, ok := a.recent[digest]; ok {
		return m, true
	}
	m, ok := a.older[digest]
	return m, ok
}

// add remembers that the digest is absent.
func (a *absentees) add(digest keys.Digest, m mark) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.recent) >= absentBound {
		a.recent, a.older = a.older, a.recent
		clear(a.recent)
	}
	if a.recent == nil {
		a.recent = make(map[keys.Digest]mark)
	}
	a.recent[digest] = m
}
