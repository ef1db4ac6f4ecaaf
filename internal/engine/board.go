package engine

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Revocations is a log of the changes of keys, and of who follows it. Nodes are
// processes that keep keys in memory. It must be safe for concurrent use.
type Revocations interface {
	// Follow lets the node believe what it knows of keys for the time of a lease
	// from the moment of the call, and returns what was changed after the
	// position that it has seen. A negative position begins with what comes next.
	Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error)
	// Leave ends the node's lease, if it has one.
	Leave(ctx context.Context, node string) error
	// Confirm returns when each node but this one has seen all that was changed
	// before the call, or has no lease any more. An error says that this is not
	// known.
	Confirm(ctx context.Context, node string) error
	// Changed returns what is closed once there may be something new since the
	// call. That is a hint: there need not be, and one may be missing.
	Changed() <-chan struct{}
}

// board is the log of a store that this process owns, in memory: the process
// itself need not follow it.
type board struct {
	now    func() time.Time
	former time.Time // until then leases may last that the process before gave

	mu    sync.Mutex
	ring  [boardSize]keys.Digest // by position modulo the size
	first int64                  // position before the oldest that is kept
	last  int64                  // position of the newest
	nodes map[string]follower
	grown chan struct{} // closed, and made anew, when the log grows
	moved chan struct{} // the same when a node has read, or is gone
}

// boardSize is how many changes are kept.
const boardSize = 1 << 14

// apart is within what the positions of processes are apart by chance, if not by
// time.
const apart = 1 << 44

// follower is a node with a lease.
type follower struct {
	seen  int64
	until time.Time
}

// newBoard returns an empty log. No position of the process before is one of its
// own, so that whoever followed that one is told to believe nothing: they begin
// with the time in microseconds, and a random number beyond it, since a clock may
// have been set back. That process may have given leases for up to the time of
// former, which nobody remembers.
func newBoard(now func() time.Time, former time.Duration) *board {
	began := now()
	begin := began.UnixMicro() + rand.Int64N(apart)
	return &board{now: now, former: began.Add(former), first: begin, last: begin, nodes: make(map[string]follower), grown: make(chan struct{}), moved: make(chan struct{})}
}

// Append notes a change of the key.
func (b *board) Append(d keys.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.ring[b.last%boardSize] = d
	b.first = max(b.first, b.last-boardSize)
	tell(&b.grown)
}

// tell closes the channel for those who wait, and makes one anew. The lock is
// held.
func tell(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}

// Follow implements Revocations.
func (b *board) Follow(_ context.Context, node string, seen int64, lease time.Duration) (r keys.Revocations, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case seen < 0:
		seen = b.last
	case seen < b.first || seen > b.last: // of another process, or too long ago
		r.Gap, seen = true, b.last
	}
	for at := seen + 1; at <= b.last; at++ {
		r.Digests = append(r.Digests, b.ring[at%boardSize])
	}
	r.Position = b.last
	if r.Gap { // it has seen nothing until it comes again
		seen = b.first - 1
	}
	b.nodes[node] = follower{seen, b.now().Add(lease)}
	tell(&b.moved)
	return r, nil
}

// Leave implements Revocations.
func (b *board) Leave(_ context.Context, node string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, node)
	tell(&b.moved)
	return nil
}

// Confirm implements Revocations. It does not wait for a lease that is given
// after the call: with that one its node was told of the change.
func (b *board) Confirm(ctx context.Context, node string) error {
	b.mu.Lock()
	target := b.last
	owing := maps.Clone(b.nodes)
	delete(owing, node)
	b.mu.Unlock()
	for {
		wait, moved := b.behind(owing, target)
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-moved:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// behind returns for how long the leases last, as they were, of the nodes that
// have not seen the position since, or of nodes that the process before knew, and
// what is closed when that may be different. Nodes whose lease is over are
// forgotten.
func (b *board) behind(owing map[string]follower, position int64) (longest time.Duration, moved <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	longest = b.former.Sub(now)
	maps.DeleteFunc(b.nodes, func(_ string, f follower) bool { return !now.Before(f.until) })
	for id, then := range owing {
		if f, leased := b.nodes[id]; leased && f.seen < position {
			longest = max(longest, then.until.Sub(now))
		}
	}
	return longest, b.moved
}

// Changed implements Revocations.
func (b *board) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.grown
}
