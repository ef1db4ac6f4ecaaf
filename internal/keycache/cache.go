// Package keycache keeps keys in memory in front of the store they come from,
// so that a request costs no I/O, with revocation that cannot be outrun.
//
// Deleting an entry does not revoke it. A load that read the key just
// before it was deleted may put it back just after, and the cache underneath
// (ristretto) writes asynchronously, so it may do so later still. Therefore
// every digest has a generation, a counter that
// revocation increments, and every entry carries the generation that was read
// before its load asked the origin. An entry is used only while the two are
// equal. So the origin was asked for it after the last revocation, no matter
// when the entry was written.
//
// The generations are a fixed table that digests share by some of their bits:
// a revocation makes a few innocent keys load again, which is harmless.
//
// The cache ignores the times within a key. A key past its ExpiresAt stays
// cached, because keys.Key.Check compares times at every use; so do deleted and
// disabled keys.
package keycache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/fareboxhq/farebox/internal/keys"
)

// ErrClosed is returned by a Lookup that needs the origin after Close.
var ErrClosed = errors.New("key cache is closed")

// Origin is the store behind the cache. It must be safe for concurrent use.
type Origin interface {
	// KeyByDigest returns the key of that digest, also a deleted, disabled or
	// expired one, or keys.ErrUnknown if it does not exist. Any other error means
	// that the origin cannot answer. It must see every change that was durable
	// before it was called. The cache copies the key and does not change it.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
}

// Source is the place an answer came from, for metrics.
type Source uint8

// The sources of an answer.
const (
	SourceCache    Source = iota // a key in memory
	SourceNegative               // an unknown digest in memory
	SourceStore                  // the origin, whether it could answer or not
)

// String returns "cache", "negative" or "store".
func (s Source) String() string {
	switch s {
	case SourceCache:
		return "cache"
	case SourceNegative:
		return "negative"
	default:
		return "store"
	}
}

// Cache answers lookups of keys by digest. Its methods but Close are safe for
// concurrent use.
type Cache struct {
	origin     Origin
	clock      func() time.Duration // since New
	trustStale bool

	ttl         atomic.Int64 // nanoseconds, as the next two
	negativeTTL atomic.Int64
	loadTimeout atomic.Int64
	trust       atomic.Pointer[trust] // nil: bounded by ttl alone

	generations [generations]atomic.Uint64
	entries     *ristretto.Cache[uint64, *entry]
	absent      absentees
	loads       loads

	// storing is read-locked while an entry is written and write-locked by
	// Close: ristretto panics if it is closed during a write. Once closed, it
	// ignores writes.
	storing sync.RWMutex
}

// generations is the number of counters: 512 KiB in all. With 100,000 keys a
// revocation makes one or two others load again.
const generations = 1 << 16

// New returns a cache in front of the origin. It fails if an option is out of
// its bounds.
func New(origin Origin, o Options) (*Cache, error) {
	if origin == nil {
		return nil, errors.New("key cache: no origin")
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	o = o.withDefaults()
	entries, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters:        countersFor(o.Size),
		MaxCost:            int64(o.Size),
		BufferItems:        64,
		IgnoreInternalCost: true, // the cost of every entry is 1, in keys
		// Digests are uniform already; ristretto's own function would allocate.
		KeyToHash: func(slot uint64) (uint64, uint64) { return slot, 0 },
	})
	if err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	c := &Cache{
		origin:     origin,
		clock:      o.sinceNow(),
		trustStale: o.trustStale,
		entries:    entries,
		absent:     newAbsentees(),
	}
	c.loads.init()
	c.setTimes(o)
	return c, nil
}

// Lookup returns the key of a digest, from memory if it can. The key is shared
// and must not be changed. The error is keys.ErrUnknown, unwrapped, if there is
// no such key, ctx's if the caller gave up, and another one, which is never
// cached, if the origin failed. Lookups of one digest share a load, which
// continues for the others when one of them gives up. A hit does no I/O and does
// not allocate.
//
// If only the origin can answer, Lookup calls beforeLoad first, unless it is nil.
// With an error from it, Lookup returns that error and does not ask the origin.
// stale reports that the key was in memory and is no longer trusted: the origin
// had it not long ago.
//
// A lookup that began before a revocation may still return the old key.
func (c *Cache) Lookup(ctx context.Context, digest keys.Digest, beforeLoad func(stale bool) error) (*keys.Key, Source, error) {
	key, source, stale := c.cached(digest)
	switch source {
	case SourceCache:
		return key, source, nil
	case SourceNegative:
		return nil, source, keys.ErrUnknown
	}
	if beforeLoad != nil {
		if err := beforeLoad(stale); err != nil {
			return nil, SourceStore, err
		}
	}
	key, err := c.load(ctx, digest)
	return key, SourceStore, err
}

// cached answers from memory: the key and SourceCache, or SourceNegative, or
// SourceStore and whether an entry was there that is no longer trusted.
func (c *Cache) cached(digest keys.Digest) (key *keys.Key, source Source, stale bool) {
	now := c.clock()
	lapsed := c.trustLapsed(now)
	// Another digest may have the same slot, so compare all of it.
	if e, ok := c.entries.Get(slot(digest)); ok && e.key.Digest == digest {
		if !lapsed && c.fresh(digest, e.stamp, now, &c.ttl) {
			return &e.key, SourceCache, false
		}
		stale = true
	}
	if lapsed {
		c.Revoke(digest) // invalidates loads already in flight, too
		return nil, SourceStore, stale
	}
	if s, ok := c.absent.get(digest); ok && c.fresh(digest, s, now, &c.negativeTTL) {
		return nil, SourceNegative, false
	}
	return nil, SourceStore, stale
}

// Revoke invalidates everything that the origin was asked before the call, for
// lookups that begin after Revoke has returned. Call it once a change of the key
// is durable in the origin, a creation included (its digest may be cached as
// unknown). If it is uncertain whether the change is durable, call it at once
// and again when that is certain. It never blocks.
func (c *Cache) Revoke(digest keys.Digest) {
	c.generation(digest).Add(1)
}

// RevokeAll is Revoke for every digest. Call it when revocations may have been
// missed. It takes about a third of a millisecond.
func (c *Cache) RevokeAll() {
	for i := range c.generations {
		c.generations[i].Add(1)
	}
}

// Configure changes Size, TTL, NegativeTTL and LoadTimeout in place; the other
// options stay. Zero, or a value that New would refuse, means the default. Only
// entries beyond a smaller size are lost. New times apply to existing entries,
// too.
//
// The memory for access frequencies was allocated by New for its size: a cache
// that has grown far beyond it makes poorer evictions.
func (c *Cache) Configure(o Options) {
	o = o.withDefaults()
	c.setTimes(o)
	c.entries.UpdateMaxCost(int64(o.Size))
	c.evictSurplus()
}

// Len returns the approximate number of keys in memory, stale ones included.
// Unknown digests are not counted.
func (c *Cache) Len() int {
	// Every entry costs 1. The two reads are not atomic, hence the bound.
	return int(max(0, c.entries.MaxCost()-c.entries.RemainingCost()))
}

// evictSurplus brings the cache within its size. Ristretto by itself would
// reject new entries rather than evict ones that are read more often.
func (c *Cache) evictSurplus() {
	c.storing.RLock()
	defer c.storing.RUnlock()
	surplus := -int(c.entries.RemainingCost())
	if surplus <= 0 {
		return
	}
	now := c.clock()
	var stale, others []uint64 // stale entries go first
	c.entries.IterValues(func(e *entry) (stop bool) {
		if !c.fresh(e.key.Digest, e.stamp, now, &c.ttl) {
			stale = append(stale, slot(e.key.Digest))
		} else if len(others) < surplus {
			others = append(others, slot(e.key.Digest))
		}
		return len(stale) >= surplus
	})
	evicted := append(stale, others...)
	for _, s := range evicted[:min(surplus, len(evicted))] {
		c.entries.Del(s)
	}
	c.entries.Wait()
}

// Close cancels the loads in flight, waits at most LoadTimeout for them and frees
// the memory. No lookup may run or begin meanwhile; an abandoned load may still
// run. Closing again does nothing.
func (c *Cache) Close() {
	if !c.loads.close(time.Duration(c.loadTimeout.Load())) {
		return
	}
	c.storing.Lock()
	defer c.storing.Unlock()
	c.entries.Close()
}

func (c *Cache) setTimes(o Options) {
	c.ttl.Store(int64(o.TTL))
	c.negativeTTL.Store(int64(o.NegativeTTL))
	c.loadTimeout.Store(int64(o.LoadTimeout))
}

// fresh reports whether an answer with that stamp may still be used.
func (c *Cache) fresh(digest keys.Digest, s stamp, now time.Duration, ttl *atomic.Int64) bool {
	return c.current(digest, s.generation) && now-s.asked < time.Duration(ttl.Load())
}

// current reports whether the digest was not revoked since its generation was
// read.
func (c *Cache) current(digest keys.Digest, generation uint64) bool {
	return c.trustStale || c.generation(digest).Load() == generation
}

// generation returns the digest's counter. It uses other bits than slot does.
func (c *Cache) generation(digest keys.Digest) *atomic.Uint64 {
	return &c.generations[binary.LittleEndian.Uint16(digest[8:])]
}

// slot returns ristretto's key for the digest.
func slot(digest keys.Digest) uint64 { return binary.LittleEndian.Uint64(digest[:]) }
