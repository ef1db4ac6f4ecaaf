package keycache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// loads holds the loads in flight. There is at most one for each digest and generation.
type loads struct {
	mu      sync.Mutex
	flights map[keys.Digest]*flight
	running int           // number of flights, including those that newer flights have replaced
	closed  bool          // close was called
	idle    chan struct{} // closed after close was called and no flight runs

	ctx    context.Context // canceled by close
	cancel context.CancelFunc
}

// flight is one load from the origin. Its result, key and err, may be read after done
// is closed.
type flight struct {
	stamp
	ctx    context.Context // ends when the flight does, after LoadTimeout at the latest
	cancel context.CancelFunc
	done   chan struct{}
	key    *keys.Key
	err    error
}

// errUnfinished is the error of a flight until the flight has a result. A load that
// ends in an unforeseen way keeps this error, so it never looks like a success.
var errUnfinished = errors.New("load key: it did not finish")

func (l *loads) init() {
	l.flights = make(map[keys.Digest]*flight)
	l.idle = make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// load asks the origin, or joins a load in flight if that load has the current
// generation. It does not join older loads: they may have missed a revocation that
// returned before this lookup began.
func (c *Cache) load(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // the caller has given up
	}
	f, err := c.join(ctx, digest)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.key, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.ctx.Done():
	}
	select {
	case <-f.done:
		return f.key, f.err
	default: // the origin ignores its context, so do not wait for the origin
		return nil, fmt.Errorf("load key: the origin does not answer: %w", f.ctx.Err())
	}
}

// join returns the flight of the digest's current generation. If no such flight runs,
// join starts one.
func (c *Cache) join(ctx context.Context, digest keys.Digest) (*flight, error) {
	l := &c.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if f := l.flights[digest]; f != nil && c.current(digest, f.generation) {
		return f, nil
	}
	f := &flight{
		stamp: stamp{generation: c.generation(digest).Load(), asked: c.clock()},
		done:  make(chan struct{}),
		err:   errUnfinished,
	}
	// Other callers may join the flight, so it must outlive its first caller.
	f.ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.loadTimeout.Load()))
	l.flights[digest] = f
	l.running++
	go c.fly(digest, f)
	return f, nil
}

// fly asks the origin, caches the result and then passes it to the waiters. The caching
// comes first, so that a waiter's next lookup finds the result in memory.
func (c *Cache) fly(digest keys.Digest, f *flight) {
	stop := context.AfterFunc(c.loads.ctx, f.cancel)
	defer stop()
	defer c.loads.end(digest, f)

	key, err := c.ask(f.ctx, digest)
	switch {
	case err == nil:
		e := newEntry(key, f.stamp)
		f.key, f.err = &e.key, nil
		c.store(digest, e)
	case errors.Is(err, keys.ErrUnknown):
		f.err = keys.ErrUnknown
		c.absent.add(digest, f.stamp)
	default:
		f.err = fmt.Errorf("load key: %w", err)
	}
}

// ask calls the origin and rejects malformed results.
func (c *Cache) ask(ctx context.Context, digest keys.Digest) (key *keys.Key, err error) {
	defer func() {
		// The HTTP server recovers only panics of a request's own goroutine. A panic
		// here would crash the process.
		if p := recover(); p != nil {
			key, err = nil, fmt.Errorf("the origin panicked: %v", p)
		}
	}()
	key, err = c.origin.KeyByDigest(ctx, digest)
	switch {
	case err != nil:
		return nil, err
	case key == nil:
		return nil, errors.New("the origin answered neither key nor error")
	case key.Digest != digest:
		return nil, errors.New("the origin answered with a key of another digest")
	}
	return key, nil
}

// store puts the entry into the cache and waits until the entry can be read.
// Ristretto may reject the entry.
func (c *Cache) store(digest keys.Digest, e *entry) {
	c.storing.RLock()
	defer c.storing.RUnlock()
	// This is only an optimisation: do not waste space on a stale entry. Correctness
	// rests on the check when an entry is read.
	if !c.current(digest, e.generation) {
		return
	}
	if c.entries.Set(slot(digest), e, 1) {
		c.entries.Wait()
	}
}

// end removes the flight and wakes its waiters.
func (l *loads) end(digest keys.Digest, f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flights[digest] == f { // a newer flight may have replaced f
		delete(l.flights, digest)
	}
	close(f.done)
	f.cancel()
	if l.running--; l.closed && l.running == 0 {
		close(l.idle)
	}
}

// close prevents new flights, cancels the running ones and waits for them until the
// timeout. It reports whether this was the first call.
func (l *loads) close(timeout time.Duration) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.closed = true
	l.cancel()
	if l.running == 0 {
		close(l.idle)
	}
	l.mu.Unlock()

	_ = clock.SleepOr(context.Background(), timeout, l.idle) // the context never ends
	return true
}
