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

// TestBroadcast checks that Notify wakes every goroutine that is waiting, but no
// goroutine that begins to wait later.
func TestBroadcast(t *testing.T) {
	var b Broadcast
	b.Notify() // no goroutine waits yet, and Notify must not block
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

// TestBroadcastConcurrently checks that Wait and Notify may run concurrently, and that
// every waiter is woken.
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
