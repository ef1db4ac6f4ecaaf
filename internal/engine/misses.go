package engine

import (
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/share"
)

// Lookups that only the store can answer are limited for each client address,
// so that a flood of well-formed tokens that nobody has cannot reach it. A
// lookup takes a token of the address's bucket and gives it back if it finds a
// key, so that only unknown ones count.
const (
	missRate  = 50   // unknown tokens a second that an address may try for long
	missBurst = 1000 // how many at once; also how many lookups may be under way
	// maxAddresses bounds the memory: at most twice as many buckets are kept.
	maxAddresses = 1 << 15
)

// misses has a bucket for each address that was seen lately.
type misses struct {
	now func() time.Time

	mu       sync.Mutex
	current  map[netip.Prefix]*bucket
	previous map[netip.Prefix]*bucket // those before current was full
}

// bucket holds tokens, as of a time.
type bucket struct {
	tokens float64
	at     time.Time
}

func newMisses(now func() time.Time) *misses {
	return &misses{now: now, current: make(map[netip.Prefix]*bucket)}
}

// take takes a token of the client's bucket and reports whether there was one.
func (m *misses) take(client netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(share.Network(client))
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// give gives a token back.
func (m *misses) give(client netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(share.Network(client))
	b.tokens = min(b.tokens+1, missBurst)
}

// bucket returns the bucket, filled up to now.
func (m *misses) bucket(client netip.Prefix) *bucket {
	now := m.now()
	b, ok := m.current[client]
	if !ok {
		if len(m.current) >= maxAddresses {
			m.previous, m.current = m.current, make(map[netip.Prefix]*bucket)
		}
		if b, ok = m.previous[client]; !ok {
			b = &bucket{tokens: missBurst, at: now}
		}
		m.current[client] = b
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(b.tokens+passed.Seconds()*missRate, missBurst)
		b.at = now
	}
	return b
}
