// Package keycache caches a store's keys in memory, so that a request costs no I/O.
// After a key is revoked, no later lookup returns the key as it was before.
//
// Deleting a cache entry does not suffice to revoke a key. A load that read the key
// just before the revocation may write its entry just after the deletion, and the
// cache underneath (ristretto) writes asynchronously and so even later. Therefore
// every digest has a generation, a counter that revocation increments. A load reads
// the generation before it asks the origin, and its entry carries that generation.
// The entry is used only while the digest still has the same generation. So an entry
// that is used comes from a load that began after the last revocation, no matter
// when the entry was written.
//
// The generations are a table of fixed size. Digests with certain bits in common share
// a counter, so a revocation makes a few other keys load again, which is harmless.
//
// The cache ignores the times within a key. Expired, deleted and disabled keys stay
// cached, because keys.Key.Check compares the times at every use.
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

// ErrClosed is the error of a Lookup that would have to ask the origin after Close.
var ErrClosed = errors.New("key cache is closed")

// Origin is the store behind the cache. An Origin must be safe for concurrent use.
type Origin interface {
	// KeyByDigest returns the key with the given digest, even if the key is deleted,
	// disabled or expired. The error is keys.ErrUnknown if there is no such key; any
	// other error means that the origin cannot answer. KeyByDigest must see every
	// change that was durable before the call. The cache copies the key and does not
	// change it.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
}

// Source says where an answer came from, for metrics.
type Source uint8

// The sources of an answer.
const (
	SourceCache    Source = iota // a key in memory
	SourceNegative               // an unknown digest in memory
	SourceStore                  // the origin, even if it could not answer
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

// Cache answers lookups of keys by digest. All methods except Close are safe for
// concurrent use.
type Cache struct {
	origin     Origin
	clock      func() time.Duration // the time since New
	trustStale bool

	ttl         atomic.Int64 // in nanoseconds, like the next two
	negativeTTL atomic.Int64
	loadTimeout atomic.Int64
	trust       atomic.Pointer[trust] // nil means that only ttl bounds the use of an answer

	generations [generations]atomic.Uint64
	entries     *ristretto.Cache[uint64, *entry]
	absent      absentees
	loads       loads

	// storing is read-locked while an entry is written and write-locked by Close,
	// because ristretto panics if it is closed during a write. A closed ristretto
	// ignores writes.
	storing sync.RWMutex
}

// generations is the number of counters for the generations of digests. They take 512
// KiB. With 100,000 keys, a revocation makes one or two other keys load again.
const generations = 1 << 16

// New returns a cache in front of the origin. It returns an error if an option is not
// within its bounds.
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
		IgnoreInternalCost: true, // every entry costs 1, so that MaxCost counts keys
		// Digests are already uniform, and ristretto's default hash would allocate.
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

// Lookup returns the key with the given digest, from memory if possible. The key is
// shared and must not be changed. The error is keys.ErrUnknown, unwrapped, if there is
// no such key, and the error of ctx if the caller gave up. Any other error means that
// the origin failed; such an error is never cached. Concurrent lookups of one digest
// share a load, which continues if one of the callers gives up. A hit does no I/O and
// does not allocate.
//
// If only the origin can answer, Lookup first calls beforeLoad, unless beforeLoad is
// nil. If beforeLoad returns an error, Lookup returns that error and does not ask the
// origin. beforeLoad(true) means that the key is in memory but no longer trusted, so
// the origin had such a key not long ago.
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

// cached answers from memory. It returns the key and SourceCache for a hit, and
// SourceNegative for a digest that is cached as unknown. Otherwise it returns
// SourceStore; stale is then true if memory has an entry that is no longer trusted.
func (c *Cache) cached(digest keys.Digest) (key *keys.Key, source Source, stale bool) {
	now := c.clock()
	lapsed := c.trustLapsed(now)
	// Another digest may have the same slot, so compare the whole digest.
	if e, ok := c.entries.Get(slot(digest)); ok && e.key.Digest == digest {
		if !lapsed && c.fresh(digest, e.stamp, now, &c.ttl) {
			return &e.key, SourceCache, false
		}
		stale = true
	}
	if lapsed {
		c.Revoke(digest) // also invalidates loads in flight
		return nil, SourceStore, stale
	}
	if s, ok := c.absent.get(digest); ok && c.fresh(digest, s, now, &c.negativeTTL) {
		return nil, SourceNegative, false
	}
	return nil, SourceStore, stale
}

// Revoke invalidates the cached answer and the loads in flight for a digest. Lookups
// that begin after Revoke has returned ask the origin again. Call Revoke when a
// key's change is durable in the origin. A creation is such a change, because the
// digest may be cached as unknown. If it is uncertain whether the change is durable,
// call Revoke immediately, and again when the change is certain. Revoke never
// blocks.
func (c *Cache) Revoke(digest keys.Digest) {
	c.generation(digest).Add(1)
}

// RevokeAll is like Revoke, for every digest. Call it when revocations may have been
// missed. RevokeAll takes about a third of a millisecond.
func (c *Cache) RevokeAll() {
	for i := range c.generations {
		c.generations[i].Add(1)
	}
}

// Configure changes Size, TTL, NegativeTTL and LoadTimeout of a running cache; the
// other options stay as they are. Zero, or a value that New would refuse, means the
// default. The cache loses entries only if it holds more than the new size. New times
// also apply to existing entries.
//
// New allocates the memory for access frequencies according to its Size. A cache that
// grows far beyond that size evicts less well.
func (c *Cache) Configure(o Options) {
	o = o.withDefaults()
	c.setTimes(o)
	c.entries.UpdateMaxCost(int64(o.Size))
	c.evictSurplus()
}

// Len returns the approximate number of keys in memory, including stale ones but not
// unknown digests.
func (c *Cache) Len() int {
	// Every entry costs 1. The two reads are not atomic, so the difference may be
	// negative.
	return int(max(0, c.entries.MaxCost()-c.entries.RemainingCost()))
}

// evictSurplus evicts entries until the cache is within its size. It evicts stale
// entries first. Ristretto by itself would reject new entries rather than evict popular
// ones.
func (c *Cache) evictSurplus() {
	c.storing.RLock()
	defer c.storing.RUnlock()
	surplus := -int(c.entries.RemainingCost())
	if surplus <= 0 {
		return
	}
	now := c.clock()
	var stale, others []uint64
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

// Close cancels the loads in flight, waits at most LoadTimeout for them and frees the
// memory. No lookup may run or begin during Close, but loads that their callers have
// abandoned may still run. Further calls do nothing.
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

// fresh reports whether an answer with stamp s may still be used.
func (c *Cache) fresh(digest keys.Digest, s stamp, now time.Duration, ttl *atomic.Int64) bool {
	return c.current(digest, s.generation) && now-s.asked < time.Duration(ttl.Load())
}

// current reports whether the digest still has the given generation, that is, whether
// no revocation has changed the generation since.
func (c *Cache) current(digest keys.Digest, generation uint64) bool {
	return c.trustStale || c.generation(digest).Load() == generation
}

// generation returns the digest's counter. The bits of the digest that choose the
// counter are not those that slot returns.
func (c *Cache) generation(digest keys.Digest) *atomic.Uint64 {
	return &c.generations[binary.LittleEndian.Uint16(digest[8:])]
}

// slot returns ristretto's key for the digest.
func slot(digest keys.Digest) uint64 { return binary.LittleEndian.Uint64(digest[:]) }
