package keycache

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// MaxSize is the maximum of Options.Size, in keys.
const MaxSize = 10_000_000

// Options bound the size of a cache and the lifetime of its entries. The zero value
// selects the defaults.
type Options struct {
	Size        int           // number of keys, at most MaxSize; 0 means 100,000
	TTL         time.Duration // lifetime of a key; 0 means 60 s
	NegativeTTL time.Duration // lifetime of an unknown digest; 0 means 5 s
	LoadTimeout time.Duration // time limit for one load from the origin; 0 means 5 s

	// Now returns the time; nil means clock.Now. Only differences matter.
	Now func() time.Time

	// trustStale disables the check of generations. Tests use it to prove that the
	// race tests would notice if the check were missing.
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

// withDefaults replaces values that are zero or out of bounds by the defaults.
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

// sinceNow returns a clock that counts from this call.
func (o Options) sinceNow() func() time.Duration {
	if o.Now == nil {
		start := clock.Now()
		return func() time.Duration { return clock.Since(start) } // Since uses only the monotonic clock here
	}
	start := o.Now()
	return func() time.Duration { return o.Now().Sub(start) }
}

// countersFor returns the number of ristretto's access counters for a cache of the
// given size. A hundred counters per key give the best evictions, because the four
// rows of ristretto's sketch differ only by a mask: two keys that share a counter in
// one row share it in all rows. But a counter takes four bytes after rounding, so a
// hundred per key would take most of the memory of a large cache. Therefore small
// caches have a hundred counters per key, large caches have ten, and those in between
// have 4 MiB of counters.
func countersFor(size int) int64 {
	const plenty, enough, budget = 100, 10, 1 << 20
	return max(min(int64(size)*plenty, budget), int64(size)*enough)
}
