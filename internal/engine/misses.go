package engine

import (
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
	"github.com/fareboxhq/farebox/internal/share"
)

// missRate limits the lookups of each client address that only the store can
// answer, so that a flood of well-formed invented tokens cannot reach it. A
// lookup that finds a key is given back, so only unknown tokens count. Its burst
// also bounds how many lookups of an address run concurrently.
var missRate = keys.Rate{Requests: 50, Per: time.Second, Burst: 1000}

// maxAddresses bounds memory: at most twice as many addresses are remembered.
const maxAddresses = 1 << 15

// misses counts the lookups of client addresses by the algorithm of rates.go.
type misses struct {
	now func() time.Duration // see rates

	mu   sync.Mutex
	full *recent.Map[netip.Prefix, time.Duration] // when the bucket is full again
}

func newMisses(now func() time.Duration) *misses {
	return &misses{now: now, full: recent.New[netip.Prefix, time.Duration](maxAddresses)}
}

// take counts a lookup, and reports false if the client must not make it.
func (m *misses) take(client netip.Addr) bool {
	network := share.Network(client)
	m.mu.Lock()
	defer m.mu.Unlock()
	full, _ := m.full.Get(network)
	quota, full := take(missRate, m.now(), full)
	m.full.Put(network, full)
	return quota.Wait == 0
}

// give takes the count of a lookup back.
func (m *misses) give(client netip.Addr) {
	network := share.Network(client)
	m.mu.Lock()
	defer m.mu.Unlock()
	if full, known := m.full.Get(network); known {
		m.full.Put(network, full-missRate.Every())
	}
}
