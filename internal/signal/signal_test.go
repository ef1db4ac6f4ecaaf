package signal

import (
	"sync"
	"testing"
)

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// One Notify wakes every waiter, and none that begins to wait afterwards.
func TestBroadcast(t *testing.T) {
	var b Broadcast
	b.Notify() // without waiters
	first, second := b.Wait(), b.Wait()
	if closed(first) || closed(second) {
		t.Fatal("woken before Notify")
	}
	b.Notify()
	later := b.Wait()
	if !closed(first) || !closed(second) {
		t.Error("a waiter was not woken")
	}
	if closed(later) {
		t.Error("a later waiter was woken by an earlier Notify")
	}
}

// Waiters and notifiers may run concurrently, and no waiter is left behind.
func TestBroadcastConcurrently(t *testing.T) {
	var b Broadcast
	var waiters sync.WaitGroup
	for range 100 {
		ch := b.Wait()
		waiters.Go(func() { <-ch })
		waiters.Go(b.Notify)
	}
	waiters.Wait()
}
