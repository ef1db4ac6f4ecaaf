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

// TestBroadcast: Notify wakes every waiter, but none that begins to wait later.
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

// TestBroadcastConcurrently: Wait and Notify may run concurrently, and every waiter is
// woken.
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
