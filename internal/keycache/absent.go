package keycache

import (
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
)

// absentBound is the minimum number of unknown digests that are remembered. The
// maximum is twice as many, which take less than 8 MiB.
const absentBound = 1 << 15

// absentees remembers digests that the origin does not know. It is separate from the
// cache of keys, so that unknown digests evict only other unknown digests.
type absentees struct {
	mu     sync.RWMutex
	stamps *recent.Map[keys.Digest, stamp]
}

func newAbsentees() absentees {
	return absentees{stamps: recent.New[keys.Digest, stamp](absentBound)}
}

// get returns the stamp that the digest was last added with, and whether the digest
// is still remembered as unknown.
func (a *absentees) get(digest keys.Digest) (stamp, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.stamps.Get(digest)
}

// add remembers that the origin does not know the digest.
func (a *absentees) add(digest keys.Digest, s stamp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stamps.Put(digest, s)
}
