package keycache

import (
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
)

// absentBound is how many unknown digests are remembered at least. Twice as many
// take less than 8 MiB.
const absentBound = 1 << 15

// absentees remembers digests that the origin does not know. They are kept apart
// from the keys so that junk evicts only other junk.
type absentees struct {
	mu     sync.RWMutex
	stamps *recent.Map[keys.Digest, stamp]
}

func newAbsentees() absentees {
	return absentees{stamps: recent.New[keys.Digest, stamp](absentBound)}
}

// get returns the stamp of the digest's last absence, if it is remembered.
func (a *absentees) get(digest keys.Digest) (stamp, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.stamps.Get(digest)
}

// add remembers that the digest is absent.
func (a *absentees) add(digest keys.Digest, s stamp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stamps.Put(digest, s)
}
