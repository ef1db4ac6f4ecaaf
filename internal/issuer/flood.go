package issuer

import (
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/recent"
	"github.com/fareboxhq/farebox/internal/share"
)

const (
	// floodEvery and floodBurst bound the tokens of one network that turn out to be
	// invalid: each costs a signature or a request to an issuer. A valid token counts only
	// while it is verified. So the burst also bounds the verifications of one network that
	// run concurrently, and is large, because many agents may share an address.
	floodEvery = 100 * time.Millisecond
	floodBurst = 1000
	// maxNetworks bounds the memory: at most twice as many networks are remembered.
	maxNetworks = 1 << 14
)

// flood counts the invalid tokens of each network. It is safe for concurrent use.
type flood struct {
	mu   sync.Mutex
	full *recent.Map[netip.Prefix, time.Time] // for each network, the time at which nothing counts any more
}

func newFlood() *flood { return &flood{full: recent.New[netip.Prefix, time.Time](maxNetworks)} }

// take counts a token. It returns false if the network has sent too many.
func (f *flood) take(client netip.Addr) bool {
	network, now := share.Network(client), clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	full, _ := f.full.Get(network)
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > floodEvery*(floodBurst-1) {
		return false
	}
	f.full.Put(network, full.Add(floodEvery))
	return true
}

// give undoes a take.
func (f *flood) give(client netip.Addr) {
	network := share.Network(client)
	f.mu.Lock()
	defer f.mu.Unlock()
	if full, ok := f.full.Get(network); ok {
		f.full.Put(network, full.Add(-floodEvery))
	}
}
