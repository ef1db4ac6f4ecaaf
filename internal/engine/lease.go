package engine

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed says that the runtime has begun to close: it takes no new work.
var ErrClosed = errors.New("the gateway is shutting down")

// leases counts what is in flight, so that closing can wait for it.
type leases struct {
	mu      sync.Mutex
	open    int
	closing bool
	drained chan struct{} // closed when closing and nothing is open
}

func newLeases() *leases { return &leases{drained: make(chan struct{})} }

// acquire takes a lease, or returns ErrClosed.
func (l *leases) acquire() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	l.open++
	return nil
}

func (l *leases) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.closing && l.open == 0 {
		close(l.drained)
	}
}

// drain refuses new leases and waits for the open ones to be given back, or
// for ctx. It is to be called once.
func (l *leases) drain(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	if l.open == 0 {
		close(l.drained)
	}
	l.mu.Unlock()
	select {
	case <-l.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
