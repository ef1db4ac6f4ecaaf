// Package keycache keeps keys in memory in front of the store they come from,
// so that a request costs no I/O, with revocation that cannot be outrun.
//
// Deleting an entry does not revoke it. A load that read the key just
// before it was deleted may put it back just after, and the cache underneath
// (ristretto) writes asynchronously, so it may do so later still. Therefore
// every digest has a generation, a counter that
// revocation moves on, and every entry carries the generation that was read
// before its load asked the origin. An entry is believed only while the two
// are equal. The origin was thus asked for a believed entry after the last
// revocation, whenever the entry came to be written.
//
// The generations are a fixed table that digests share by some of their bits:
// a revocation makes a few innocent keys load again, which is harmless.
//
// Times within a key are not the cache's concern. A key past its ExpiresAt
// stays cached as it is, because keys.Key.Check compares times at every use;
// the same holds for deleted and disabled keys.
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

// Errors of the cache itself.
var (
	// ErrMiss is Cached's answer for a digest that only the origin can judge.
	ErrMiss = errors.New("key is not in memory")
	// ErrStale is an ErrMiss for a key that was in memory and is believed no
	// longer: the origin had it not long ago.
	ErrStale = fmt.Errorf("%w any longer", ErrMiss)
	// ErrClosed is the answer of Lookup when it needs the origin after Close.
	ErrClosed = errors.New("key cache is closed")
)

// Origin is where keys come from. It must be safe for concurrent use.
type Origin interface {
	// KeyByDigest returns the key of that digest, also a deleted, disabled or
	// expired one; keys.ErrUnknown if there is none; any other error means
	// that the origin cannot answer. It must see every change that was durable
	// before it was called. The cache copies the key and does not change it.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
}

// Source says where an answer came from, for metrics.
type Source uint8

// The sources of an answer.
const (
	SourceCache    Source = iota // a key in memory
	SourceNegative               // known, from memory, not to exist
	SourceStore                  // the origin, or only the origin could say
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

// Cache answers lookups of keys by digest. Its methods may be used by many
// goroutines at once, Close excepted.
type Cache struct {
	origin     Origin
	clock      func() time.Duration // since New
	trustStale bool

	ttl         atomic.Int64 // nanoseconds, as the next two
	negativeTTL atomic.Int64
	loadTimeout atomic.Int64
	lease       atomic.Pointer[lease] // nil: memory needs none

	generations [generations]atomic.Uint64
	entries     *ristretto.Cache[uint64, *entry]
	absent      absentees
	loads       loads

	// storing is held for reading while an entry is written, and for writing
	// by Close: ristretto panics when it is closed under a write. Once it is
	// closed it ignores writes.
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
		clock:      o.clock(),
		trustStale: o.trustStale,
		entries:    entries,
	}
	c.loads.init()
	c.setTimes(o)
	return c, nil
}

// Lookup returns the key of that digest, from memory if it can. Nobody may
// change the key that it returns. The error is keys.ErrUnknown, unwrapped,
// when there is no such key, ctx's when the caller gave up, and any other when
// the origin could not answer, which is never cached. Lookups of one digest
// share a load, which goes on for the others when one of them gives up. A hit
// does no I/O and does not allocate.
//
// A lookup that began before a revocation may still return the key as it was.
func (c *Cache) Lookup(ctx context.Context, digest keys.Digest) (*keys.Key, Source, error) {
	key, source, err := c.Cached(digest)
	if source != SourceStore {
		return key, source, err
	}
	key, err = c.load(ctx, digest)
	return key, SourceStore, err
}

// Cached answers from memory only: the key and SourceCache, keys.ErrUnknown
// and SourceNegative, or ErrMiss (which may be ErrStale) and SourceStore. It lets a caller limit
// misses before they reach the origin.
func (c *Cache) Cached(digest keys.Digest) (*keys.Key, Source, error) {
	now := c.clock()
	miss := ErrMiss
	doubted := c.doubted(now)
	// Another digest may have the same slot, so the whole of it is compared.
	if e, ok := c.entries.Get(slot(digest)); ok && e.key.Digest == digest {
		if !doubted && c.believed(digest, e.mark, now, &c.ttl) {
			return &e.key, SourceCache, nil
		}
		miss = ErrStale
	}
	if doubted {
		c.Revoke(digest) // not even a question that was put before this one may answer it
		return nil, SourceStore, miss
	}
	if m, ok := c.absent.get(digest); ok && c.believed(digest, m, now, &c.negativeTTL) {
		return nil, SourceNegative, keys.ErrUnknown
	}
	return nil, SourceStore, miss
}

// Revoke makes every lookup that begins after it returned believe only what
// was asked of the origin after it was called. Call it after a change of the
// key is durable in the origin, a creation included (its digest may be cached
// as unknown), and also when it is not known whether the change is durable:
// then again once it is known. It never blocks.
func (c *Cache) Revoke(digest keys.Digest) {
	c.generation(digest).Add(1)
}

// RevokeAll does for every digest what Revoke does for one. Call it when
// revocations may have been missed. It takes about a third of a millisecond.
func (c *Cache) RevokeAll() {
	for i := range c.generations {
		c.generations[i].Add(1)
	}
}

// Configure changes Size, TTL, NegativeTTL and LoadTimeout in place; the other
// options stay. Zero, or a value that New would refuse, means the default. No
// entry is lost but those beyond a smaller size. New times hold for the entries
// that are there already.
//
// The memory for access frequencies is that of the size given to New: a cache
// grown much beyond it chooses less well what to evict.
func (c *Cache) Configure(o Options) {
	o = o.withDefaults()
	c.setTimes(o)
	c.entries.UpdateMaxCost(int64(o.Size))
	c.evictSurplus()
}

// Len returns about how many keys are held, believed or not. Digests known not
// to exist are not counted.
func (c *Cache) Len() int {
	// Every entry costs 1. The two reads are not one, hence the bound.
	return int(max(0, c.entries.MaxCost()-c.entries.RemainingCost()))
}

// evictSurplus brings the cache within its size. Ristretto by itself would
// rather refuse newcomers for ever than evict entries that were read more.
func (c *Cache) evictSurplus() {
	c.storing.RLock()
	defer c.storing.RUnlock()
	surplus := -int(c.entries.RemainingCost())
	if surplus <= 0 {
		return
	}
	// Those that are not believed go first.
	now := c.clock()
	var worthless, others []uint64
	c.entries.IterValues(func(e *entry) (stop bool) {
		if !c.believed(e.key.Digest, e.mark, now, &c.ttl) {
			worthless = append(worthless, slot(e.key.Digest))
		} else if len(others) < surplus {
			others = append(others, slot(e.key.Digest))
		}
		return len(worthless) >= surplus
	})
	goes := append(worthless, others...)
	for _, s := range goes[:min(surplus, len(goes))] {
		c.entries.Del(s)
	}
	c.entries.Wait()
}

// Close ends the loads under way, waits for them for at most LoadTimeout and
// frees what the cache holds. No lookup may run or begin meanwhile; a load that
// its caller left may. Closing again does nothing.
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

// believed reports whether an answer so marked still counts.
func (c *Cache) believed(digest keys.Digest, m mark, now time.Duration, ttl *atomic.Int64) bool {
	return c.current(digest, m.generation) && now-m.asked < time.Duration(ttl.Load())
}

// current reports whether nothing of the digest was revoked since its
// generation was read.
func (c *Cache) current(digest keys.Digest, generation uint64) bool {
	return c.trustStale || c.generation(digest).Load() == generation
}

// generation returns the digest's counter, by other bits than its slot.
func (c *Cache) generation(digest keys.Digest) *atomic.Uint64 {
	return &c.generations[binary.LittleEndian.Uint16(digest[8:])]
}

// slot returns ristretto's key for the digest.
func slot(digest keys.Digest) uint64 { return binary.LittleEndian.Uint64(digest[:]) }
