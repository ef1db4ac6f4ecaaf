package keycache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/keys"
)

// TestMain fails the package's tests if a goroutine is left over.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryOrigin is an origin in memory. A change is durable as soon as the method
// that makes the change returns.
type memoryOrigin struct {
	mu    sync.Mutex
	keys  map[keys.Digest]*keys.Key
	asked map[keys.Digest]int
	total atomic.Int64

	// If after is not nil, KeyByDigest calls after() between reading the key and
	// returning. An error from after() becomes the error of KeyByDigest.
	after func(ctx context.Context, digest keys.Digest) error
}

func newOrigin() *memoryOrigin {
	return &memoryOrigin{keys: make(map[keys.Digest]*keys.Key), asked: make(map[keys.Digest]int)}
}

func (o *memoryOrigin) KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	o.total.Add(1)
	o.mu.Lock()
	o.asked[digest]++
	key, ok := o.keys[digest]
	after := o.after
	o.mu.Unlock()
	if after != nil {
		if err := after(ctx, digest); err != nil {
			return nil, err
		}
	}
	if !ok {
		return nil, keys.ErrUnknown
	}
	return key, nil
}

// add adds the key, or replaces the key with the same digest. It returns the digest.
func (o *memoryOrigin) add(key *keys.Key) keys.Digest {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[key.Digest] = key
	return key.Digest
}

// change replaces the key with the given digest by a copy that f has changed.
func (o *memoryOrigin) change(digest keys.Digest, f func(*keys.Key)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := *o.keys[digest]
	f(&key)
	o.keys[digest] = &key
}

// setAfter sets o.after.
func (o *memoryOrigin) setAfter(f func(context.Context, keys.Digest) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.after = f
}

// questions returns how often the digest was asked for.
func (o *memoryOrigin) questions(digest keys.Digest) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[digest]
}

// gate blocks the origin's answers until it is opened. Its wait methods are hooks for
// memoryOrigin.
type gate struct {
	reached chan struct{} // receives a value for every blocked answer
	opened  chan struct{}
}

func newGate() *gate {
	return &gate{reached: make(chan struct{}, 1024), opened: make(chan struct{})}
}

func (g *gate) open() { close(g.opened) }

// wait blocks until the gate is open and ignores the context.
func (g *gate) wait(context.Context, keys.Digest) error {
	g.reached <- struct{}{}
	<-g.opened
	return nil
}

// waitOrEnd blocks until the gate is open or the context ends.
func (g *gate) waitOrEnd(ctx context.Context, _ keys.Digest) error {
	g.reached <- struct{}{}
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fakeClock moves only when advanced.
type fakeClock struct{ since atomic.Int64 }

func (c *fakeClock) now() time.Time          { return time.Unix(1_800_000_000, c.since.Load()) }
func (c *fakeClock) advance(d time.Duration) { c.since.Add(int64(d)) }

// newCache returns a cache that is closed at the end of the test.
func newCache(tb testing.TB, origin Origin, o Options) *Cache {
	tb.Helper()
	c, err := New(origin, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// errNotLoaded is the error of inMemory for digests that would need a load.
var errNotLoaded = errors.New("not in memory")

// inMemory looks up a digest without asking the origin.
func inMemory(c *Cache, digest keys.Digest) (*keys.Key, Source, error) {
	return c.Lookup(context.Background(), digest, func(bool) error { return errNotLoaded })
}

// mustLookup returns the key with the given digest, and fails the test if Lookup fails.
func mustLookup(tb testing.TB, c *Cache, digest keys.Digest) *keys.Key {
	tb.Helper()
	key, _, err := c.Lookup(context.Background(), digest, nil)
	if err != nil {
		tb.Fatalf("lookup: %v", err)
	}
	if key.Digest != digest {
		tb.Fatal("lookup returned a key of another digest")
	}
	return key
}

// wantSource looks up the digest. It fails the test unless the answer comes from the
// wanted source. If wantErr is nil, the answer must be a key; otherwise it must be
// wantErr.
func wantSource(tb testing.TB, c *Cache, digest keys.Digest, want Source, wantErr error) {
	tb.Helper()
	key, source, err := c.Lookup(context.Background(), digest, nil)
	if source != want || !errors.Is(err, wantErr) || (key != nil) != (wantErr == nil) {
		tb.Fatalf("lookup: key %v, source %v, error %v; want source %v, error %v", key != nil, source, err, want, wantErr)
	}
}

// digestOf returns the i-th of a series of digests.
func digestOf(i int) keys.Digest {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	return sha256.Sum256(b[:])
}

// realistic returns the i-th of a series of keys. As in a key from a store, every
// string has its own memory.
func realistic(i int) *keys.Key {
	d := digestOf(i)
	id := func(prefix string, b []byte) string {
		return fmt.Sprintf("%s_%x-%x-7%03x-%x-%x", prefix, b[:4], b[4:6], int(b[6])<<4, b[7:9], b[9:15])
	}
	return &keys.Key{
		ID:          id("key", d[:]),
		Account:     id("acct", d[8:]),
		Lineage:     id("key", d[:]),
		Kind:        keys.Agent,
		Environment: keys.Environment(fmt.Sprint("li", "ve")),
		Name:        fmt.Sprintf("agent number %d", i),
		Hint:        fmt.Sprintf("sk_live_…%x", d[:2]),
		Digest:      d,
		Scopes:      []string{fmt.Sprint("billing", ".", "read")},
		CreatedAt:   time.Unix(int64(1_700_000_000+i), 0).UTC(),
		ExpiresAt:   time.Unix(4_000_000_000, 0).UTC(),
	}
}
