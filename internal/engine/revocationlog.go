package engine

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/signal"
)

// Revocations is a log of key changes, and of the nodes that follow it. Nodes are
// processes that keep keys in memory. An implementation must be safe for concurrent
// use.
type Revocations interface {
	// Follow grants the node a lease that starts at the call. During the lease the node
	// may trust the keys in its memory. Follow returns the changes after the given
	// position. A negative position means the end of the log.
	Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error)
	// Leave ends the node's lease, if the node has a lease.
	Leave(ctx context.Context, node string) error
	// Confirm waits until every other node has seen all changes made before the
	// call, or has no lease. After an error, a node may still have a lease without
	// having seen the changes.
	Confirm(ctx context.Context, node string) error
	// Changed returns a channel that is closed when there may be changes since the
	// call. It is only a hint: wake-ups may be spurious or lost.
	Changed() <-chan struct{}
}

// revocationLog is the in-memory log of a store that this process owns. The process
// itself does not have to follow it.
type revocationLog struct {
	now    func() time.Time
	former time.Time // the time until which leases of the previous process may last

	mu    sync.Mutex
	ring  [logSize]keys.Digest // indexed by position modulo logSize
	first int64                // position before the oldest change in the ring
	last  int64                // position of the newest change
	nodes map[string]nodeLease

	grown signal.Broadcast // notified when the log has grown
	moved signal.Broadcast // notified when a node has read the log or has left
}

// logSize is the number of changes that the log keeps.
const logSize = 1 << 14

// positionSpread is the range of the random part of a log's first position.
const positionSpread = 1 << 44

// nodeLease is the state of a node with a lease.
type nodeLease struct {
	seen  int64 // the position up to which the node has seen changes
	until time.Time
}

// newRevocationLog returns an empty log. The previous process may have granted leases
// that are still valid. They stay valid for at most the given duration from now on. The
// positions differ from those of the previous process, so that nodes which followed it
// find out that they have missed changes. The first position is the time in
// microseconds plus a random number, since the clock may have been set back.
func newRevocationLog(now func() time.Time, former time.Duration) *revocationLog {
	began := now()
	position := began.UnixMicro() + rand.Int64N(positionSpread)
	return &revocationLog{now: now, former: began.Add(former), first: position, last: position, nodes: make(map[string]nodeLease)}
}

// leases returns the number of nodes that hold a lease.
func (l *revocationLog) leases() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, node := range l.nodes {
		if node.until.After(now) {
			n++
		}
	}
	return n
}

// Append adds a change of the key.
func (l *revocationLog) Append(d keys.Digest) {
	l.mu.Lock()
	l.last++
	l.ring[l.last%logSize] = d
	l.first = max(l.first, l.last-logSize)
	l.mu.Unlock()
	l.grown.Notify()
}

// Follow implements Revocations.
func (l *revocationLog) Follow(_ context.Context, node string, seen int64, lease time.Duration) (r keys.Revocations, _ error) {
	defer l.moved.Notify()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case seen < 0:
		seen = l.last
	case seen < l.first || seen > l.last: // the position is too old, or from the log of another process
		r.Gap, seen = true, l.last
	}
	for at := seen + 1; at <= l.last; at++ {
		r.Digests = append(r.Digests, l.ring[at%logSize])
	}
	r.Position = l.last
	if r.Gap { // the node has missed changes, so Confirm waits until the node's next call of Follow
		seen = l.first - 1
	}
	l.nodes[node] = nodeLease{seen, l.now().Add(lease)}
	return r, nil
}

// Leave implements Revocations.
func (l *revocationLog) Leave(_ context.Context, node string) error {
	l.mu.Lock()
	delete(l.nodes, node)
	l.mu.Unlock()
	l.moved.Notify()
	return nil
}

// Confirm implements Revocations. It does not wait for leases granted after the call,
// because their nodes received the change together with the lease.
func (l *revocationLog) Confirm(ctx context.Context, node string) error {
	l.mu.Lock()
	target := l.last
	pending := maps.Clone(l.nodes)
	delete(pending, node)
	l.mu.Unlock()
	for {
		moved := l.moved.Wait() // taken before the nodes are read; otherwise a change could be missed
		wait := l.behind(pending, target)
		if wait <= 0 {
			return nil
		}
		if err := clock.SleepOr(ctx, wait, moved); err != nil {
			return err
		}
	}
}

// behind returns how long Confirm may still have to wait: the longest remaining time of
// all leases that matter. These are the leases of the previous process, and each lease
// in pending, unless its node has already seen the position. behind also drops expired
// leases from the log.
func (l *revocationLog) behind(pending map[string]nodeLease, position int64) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	longest = l.former.Sub(now)
	maps.DeleteFunc(l.nodes, func(_ string, n nodeLease) bool { return !now.Before(n.until) })
	for id, then := range pending {
		if n, leased := l.nodes[id]; leased && n.seen < position {
			longest = max(longest, then.until.Sub(now))
		}
	}
	return longest
}

// Changed implements Revocations.
func (l *revocationLog) Changed() <-chan struct{} { return l.grown.Wait() }
