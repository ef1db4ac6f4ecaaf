// Package signal wakes goroutines that wait for something to change.
package signal

import "sync"

// Broadcast wakes all goroutines that wait for it. The zero Broadcast is ready to use.
// It is safe for concurrent use and must not be copied.
type Broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil while no goroutine waits
}

// Wait returns a channel that the next Notify closes. Call Wait before reading the
// state that may change. If the state were read first, a change between the reading and
// the call of Wait would go unnoticed.
func (b *Broadcast) Wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Notify wakes all goroutines that wait. It does not block.
func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
