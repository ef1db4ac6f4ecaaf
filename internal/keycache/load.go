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

// loads holds the loads in flight, one for each digest and generation.
type loads struct {
	mu      sync.Mutex
	flights map[keys.Digest]*flight
	running int           // flights, also those that a newer one replaced
	closed  bool          //
	idle    chan struct{} // closed once closed is set and no flight runs

	ctx    context.Context // ends with close
	cancel context.CancelFunc
}

// flight is one load from the origin. Its result may be read once done is closed.
type flight struct {
	stamp
	ctx    context.Context // ends with the flight, at LoadTimeout at the latest
	cancel context.CancelFunc
	done   chan struct{}
	key    *keys.Key
	err    error
}

// errUnfinished is the error of a flight without a result, so that a load which
// ends in an unforeseen way never looks like a success.
var errUnfinished = errors.New("load key: it did not finish")

func (l *loads) init() {
	l.flights = make(map[keys.Digest]*flight)
	l.idle = make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// load asks the origin, or joins a load in flight of the current generation. An
// older load may have missed a revocation that returned before this lookup began.
func (c *Cache) load(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // the caller is gone
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
	default: // the origin ignores its context; do not wait for it
		return nil, fmt.Errorf("load key: the origin does not answer: %w", f.ctx.Err())
	}
}

// join returns the flight of the digest's current generation, and starts one if
// none is running.
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
	// Others may join the flight, so it outlives its first caller.
	f.ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.loadTimeout.Load()))
	l.flights[digest] = f
	l.running++
	go c.fly(digest, f)
	return f, nil
}

// fly asks the origin, caches the result and then passes it to the waiters, in
// this order, so that their next lookup finds it in the cache.
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
		// This is not a request's goroutine, where the server would recover: a
		// panic here would crash the process.
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

// store puts the entry into the cache and waits until it can be read, unless
// ristretto rejected it.
func (c *Cache) store(digest keys.Digest, e *entry) {
	c.storing.RLock()
	defer c.storing.RUnlock()
	// An optimisation: do not let a stale entry take a place. Correctness rests
	// on the check when an entry is read.
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
	if l.flights[digest] == f { // not a newer one
		delete(l.flights, digest)
	}
	close(f.done)
	f.cancel()
	if l.running--; l.closed && l.running == 0 {
		close(l.idle)
	}
}

// close prevents new flights, cancels those in flight and waits for them until
// the timeout. It reports whether this was the first call.
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

	_ = clock.SleepOr(context.Background(), timeout, l.idle) // never fails
	return true
}
