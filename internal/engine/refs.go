package engine

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed means that the runtime has begun to close and accepts no new work.
var ErrClosed = errors.New("the gateway is shutting down")

// refs counts the users of a runtime, so that closing can wait for them.
type refs struct {
	mu      sync.Mutex
	open    int
	closing bool
	drained chan struct{} // closed when drain was called and no reference is left
}

func newRefs() *refs { return &refs{drained: make(chan struct{})} }

// acquire takes a reference, or returns ErrClosed.
func (r *refs) acquire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return ErrClosed
	}
	r.open++
	return nil
}

func (r *refs) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	if r.closing && r.open == 0 {
		close(r.drained)
	}
}

// drain refuses new references and waits until the open references are released or ctx
// ends. Call it at most once.
func (r *refs) drain(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	if r.open == 0 {
		close(r.drained)
	}
	r.mu.Unlock()
	select {
	case <-r.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
