package keycache

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// MaxSize bounds Options.Size, in keys.
const MaxSize = 10_000_000

// Options bound how much is cached and for how long. The zero value selects the
// defaults.
type Options struct {
	Size        int           // keys, at most MaxSize; 0 means 100,000
	TTL         time.Duration // lifetime of a key; 0 means 60 s
	NegativeTTL time.Duration // lifetime of an unknown digest; 0 means 5 s
	LoadTimeout time.Duration // of one load from the origin; 0 means 5 s

	// Now returns the time; nil means clock.Now. Only differences matter.
	Now func() time.Time

	// trustStale disables the check of generations, so that a test can prove
	// that the race test would notice its absence.
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

// withDefaults replaces values that are zero or out of bounds.
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

// sinceNow returns a clock that starts at zero.
func (o Options) sinceNow() func() time.Duration {
	if o.Now == nil {
		start := clock.Now()
		return func() time.Duration { return clock.Since(start) } // reads one clock, not two
	}
	start := o.Now()
	return func() time.Duration { return o.Now().Sub(start) }
}

// countersFor returns the number of ristretto's access counters for a cache of
// that many keys. A hundred per key give the best evictions: the four rows of its
// sketch differ only by a mask, so two keys that share a counter in one row share
// it in all. But a counter takes four bytes after rounding, and a hundred of them
// would make up most of the memory of a large cache. So small caches get a
// hundred per key and large ones ten, with 4 MiB in between.
func countersFor(size int) int64 {
	const plenty, enough, budget = 100, 10, 1 << 20
	return max(min(int64(size)*plenty, budget), int64(size)*enough)
}
