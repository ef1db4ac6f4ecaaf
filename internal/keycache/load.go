package keycache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// loads holds the questions to the origin that are under way, one for each
// digest and generation.
type loads struct {
	mu      sync.Mutex
	flights map[keys.Digest]*flight
	running int           // flights, also those that a newer one replaced
	closed  bool          //
	idle    chan struct{} // closed when the last flight ends after close

	ctx    context.Context // ends with close
	cancel context.CancelFunc
}

// flight is one question to the origin. Its answer may be read once done is
// closed.
type flight struct {
	mark
	ctx    context.Context // ends with the flight, at LoadTimeout at the latest
	cancel context.CancelFunc
	done   chan struct{}
	key    *keys.Key
	err    error
}

// errUnfinished stands until there is an answer, so that a load which ends in
// an unforeseen way can never be taken for one.
var errUnfinished = errors.New("load key: it did not finish")

func (l *loads) init() {
	l.flights = make(map[keys.Digest]*flight)
	l.idle = make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// load asks the origin, or waits for somebody else's question if it was asked
// under the present generation. An older one may have missed a revocation that
// returned before this lookup began.
func (c *Cache) load(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nobody waits for the answer
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
	default: // an origin that does not heed its context; it is not waited for
		return nil, fmt.Errorf("load key: the origin does not answer: %w", f.ctx.Err())
	}
}

// join returns the flight for the digest's present generation, and begins it
// if there is none.
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
		mark: mark{generation: c.generation(digest).Load(), asked: c.clock()},
		done: make(chan struct{}),
		err:  errUnfinished,
	}
	// The flight is everybody's who joins: it outlives its first caller.
	f.ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.loadTimeout.Load()))
	l.flights[digest] = f
	l.running++
	go c.fly(digest, f)
	return f, nil
}

// fly asks the origin, caches its answer and hands it to those who wait. The
// answer is in the cache before it is handed over, so that a lookup after this
// one finds it there.
func (c *Cache) fly(digest keys.Digest, f *flight) {
	stop := context.AfterFunc(c.loads.ctx, f.cancel)
	defer stop()
	defer c.loads.end(digest, f)

	key, err := c.ask(f.ctx, digest)
	switch {
	case err == nil:
		e := newEntry(key, f.mark)
		f.key, f.err = &e.key, nil
		c.store(digest, e)
	case errors.Is(err, keys.ErrUnknown):
		f.err = keys.ErrUnknown
		c.absent.add(digest, f.mark)
	default:
		f.err = fmt.Errorf("load key: %w", err)
	}
}

// ask puts the question and refuses an answer that is none.
func (c *Cache) ask(ctx context.Context, digest keys.Digest) (key *keys.Key, err error) {
	defer func() {
		// It does not run on a request's goroutine, where a server would
		// recover: one request's misfortune would end the process.
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

// store puts the entry into the cache and waits until it is there, unless it
// was not admitted.
func (c *Cache) store(digest keys.Digest, e *entry) {
	c.storing.RLock()
	defer c.storing.RUnlock()
	// An entry that is no longer believed is not worth its place. This spares
	// work; what is believed is decided when it is read.
	if !c.current(digest, e.generation) {
		return
	}
	if c.entries.Set(slot(digest), e, 1) {
		c.entries.Wait()
	}
}

// end takes the flight out and lets those who wait read it.
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

// close lets no flight begin, cancels those under way and waits for them at
// most that long. It reports whether it was the first to close.
func (l *loads) close(patience time.Duration) bool {
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

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.idle:
	case <-timer.C:
	}
	return true
}
