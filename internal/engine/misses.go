package engine

import (
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
	"github.com/fareboxhq/farebox/internal/share"
)

// missRate limits the lookups of each client address that miss the cache. It keeps a
// flood of well-formed but invented tokens away from the store. A lookup is not
// counted if it finds a key, so only unknown tokens use up the limit. Burst also
// bounds how many lookups of one address run concurrently.
var missRate = keys.Rate{Requests: 50, Per: time.Second, Burst: 1000}

// maxAddresses bounds the memory for addresses: at most 2 * maxAddresses addresses are
// remembered.
const maxAddresses = 1 << 15

// misses counts the lookups of client addresses, with the same algorithm as rates.
type misses struct {
	now func() time.Duration // the monotonic time since an arbitrary instant

	mu   sync.Mutex
	full *recent.Map[netip.Prefix, time.Duration] // for each network, the time at which its bucket will be full again
}

func newMisses(now func() time.Duration) *misses {
	return &misses{now: now, full: recent.New[netip.Prefix, time.Duration](maxAddresses)}
}

// take counts a lookup. It returns false if the client must not make it.
func (m *misses) take(client netip.Addr) bool {
	network := share.Network(client)
	m.mu.Lock()
	defer m.mu.Unlock()
	full, _ := m.full.Get(network)
	quota, full := take(missRate, m.now(), full)
	m.full.Put(network, full)
	return quota.Wait == 0
}

// give undoes the count of a lookup.
func (m *misses) give(client netip.Addr) {
	network := share.Network(client)
	m.mu.Lock()
	defer m.mu.Unlock()
	if full, known := m.full.Get(network); known {
		m.full.Put(network, full-missRate.Every())
	}
}
