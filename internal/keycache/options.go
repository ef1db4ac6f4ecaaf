package keycache

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// MaxSize bounds Options.Size, in keys.
const MaxSize = 10_000_000

// Options say how much is cached and for how long. The zero Options are the
// defaults.
type Options struct {
	Size        int           // keys, at most MaxSize; 0 means 100,000
	TTL         time.Duration // how long a key is believed; 0 means 60 s
	NegativeTTL time.Duration // how long an unknown digest is believed; 0 means 5 s
	LoadTimeout time.Duration // bound on one question to the origin; 0 means 5 s

	// Now tells the time; nil means clock.Now. Only differences count.
	Now func() time.Time

	// trustStale takes the check of generations out, so that a test can show
	// that the race test would notice.
	trustStale bool
}

// validate returns an error that names the first option out of bounds.
func (o Options) validate() error {
	switch {
	case o.Size < 0 || o.Size > MaxSize:
		return fmt.Errorf("size %d: want 0 to %d keys", o.Size, MaxSize)
	case o.TTL < 0:
		return fmt.Errorf("ttl %v: want 0 or more", o.TTL)
	case o.NegativeTTL < 0:
		return fmt.Errorf("negative ttl %v: want 0 or more", o.NegativeTTL)
	case o.LoadTimeout < 0:
		return fmt.Errorf("load timeout %v: want 0 or more", o.LoadTimeout)
	}
	return nil
}

// withDefaults replaces what is zero or out of bounds.
func (o Options) withDefaults() Options {
	if o.Size <= 0 || o.Size > MaxSize {
		o.Size = 100_000
	}
	if o.TTL <= 0 {
		o.TTL = time.Minute
	}
	if o.NegativeTTL <= 0 {
		o.NegativeTTL = 5 * time.Second
	}
	if o.LoadTimeout <= 0 {
		o.LoadTimeout = 5 * time.Second
	}
	return o
}

// clock returns a clock that counts from now.
func (o Options) clock() func() time.Duration {
	if o.Now == nil {
		start := clock.Now()
		return func() time.Duration { return clock.Since(start) } // reads one clock, not two
	}
	start := o.Now()
	return func() time.Duration { return o.Now().Sub(start) }
}

// countersFor returns how many access counters ristretto gets for a cache of
// that many keys. A hundred for each choose best what to evict: the four rows
// of its sketch differ by no more than a mask, so two keys that share a counter
// in one row share it in all. But a counter takes four bytes after rounding,
// and a hundred of them would make up most of the memory of a large cache. So
// small caches get a hundred an entry, large ones ten, with 4 MiB in between.
func countersFor(size int) int64 {
	const plenty, enough, budget = 100, 10, 1 << 20
	return max(min(int64(size)*plenty, budget), int64(size)*enough)
}
