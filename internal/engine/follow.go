package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// LeaseTime is for how long a node that cannot reach the store goes on to
// believe the keys that it knows: the bound within which a deleted key is dead
// everywhere, whatever becomes of a node.
const LeaseTime = 2 * time.Second

const (
	renewEvery = LeaseTime / 4
	// renewTime bounds one renewal; a later answer would be worth nothing.
	renewTime = LeaseTime
	// retryEvery is how soon a renewal that has failed is tried again.
	retryEvery = 100 * time.Millisecond
)

// known is what a node keeps of keys, in memory.
type known interface {
	Clock() time.Duration
	Believe(from time.Duration, wall time.Time, forSo time.Duration)
	Revoke(keys.Digest)
	RevokeAll()
}

// node follows the changes of keys that other processes make to a store that
// they share.
type node struct {
	id     string
	log    Revocations
	cache  known
	told   func(keys.Digest) // of each change
	lost   func()            // changes may have been missed
	logger *slog.Logger
	asked  atomic.Int64 // when the log was last asked, of those times that it answered; on the cache's clock

	cancel context.CancelFunc
	done   chan struct{}
}

// follow begins to follow the log. Until it has read it once, memory is not
// believed.
func follow(log Revocations, cache known, told func(keys.Digest), lost func(), logger *slog.Logger) *node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{
		id: uuid.NewString(), log: log, cache: cache, told: told, lost: lost, logger: logger,
		cancel: cancel, done: make(chan struct{}),
	}
	cache.Believe(cache.Clock(), clock.Now(), 0)
	n.asked.Store(int64(cache.Clock()))
	go n.run(ctx)
	return n
}

func (n *node) run(ctx context.Context) {
	defer close(n.done)
	seen, healthy := int64(-1), true
	sure := n.cache.Clock() // when streams were last told of all that was changed, or to look
	for ctx.Err() == nil {
		changed := n.log.Changed() // before the log is read, so that nothing falls between
		position, more, err := n.renew(ctx, seen)
		wait := renewEvery
		switch {
		case err != nil:
			if healthy {
				n.logger.Warn("changes of keys cannot be followed: what is known of keys is not believed until they can", "error", err)
			}
			changed, wait = nil, retryEvery
			if now := n.cache.Clock(); now-sure >= LeaseTime && ctx.Err() == nil {
				n.lost()
				sure = now
			}
		case !healthy:
			n.logger.Info("changes of keys can be followed again")
		}
		healthy = err == nil
		if healthy {
			seen, sure = position, time.Duration(n.asked.Load())
		}
		if more { // also to tell that it was read
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// renew reads what was changed, and heeds it, before anything in memory is
// believed for longer.
func (n *node) renew(ctx context.Context, seen int64) (position int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	began, wall := n.cache.Clock(), clock.Now()
	r, err := n.log.Follow(ctx, n.id, seen, LeaseTime)
	if err != nil {
		return seen, false, err
	}
	if r.Gap || seen < 0 { // before its first lease nobody waited for it, nor is it told of that time
		n.cache.RevokeAll()
		n.lost()
	}
	for _, d := range r.Digests {
		n.cache.Revoke(d)
		n.told(d)
	}
	n.asked.Store(int64(began))
	if !r.More {
		n.cache.Believe(began, wall, LeaseTime)
	}
	return r.Position, r.More || r.Gap || len(r.Digests) > 0, nil
}

// lag returns how long ago the log was last asked, of those times that it
// answered.
func (n *node) lag() time.Duration { return n.cache.Clock() - time.Duration(n.asked.Load()) }

// confirm returns when no other node believes any longer what it knew of keys
// before the call, which is after LeaseTime at the latest.
func (n *node) confirm() { Confirm(n.log, n.id) }

// Confirm returns when no node but this one believes any longer what it knew of
// keys before the call, which is after LeaseTime at the latest.
func Confirm(log Revocations, node string) {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(context.Background(), LeaseTime)
	defer cancel()
	if err := log.Confirm(ctx, node); err != nil {
		// Whoever has not heard of it by then has no lease any more.
		timer := time.NewTimer(clock.Until(began.Add(LeaseTime)))
		defer timer.Stop()
		<-timer.C
	}
}

// stop ends the following, and the node's lease, so that nobody waits for it.
func (n *node) stop() {
	n.cancel()
	<-n.done
	n.cache.Believe(n.cache.Clock(), clock.Now(), 0) // calls may go on that closing did not wait for
	ctx, cancel := context.WithTimeout(context.Background(), renewTime)
	defer cancel()
	if err := n.log.Leave(ctx, n.id); err != nil {
		n.logger.Debug("the lease could not be ended, it will lapse", "error", err)
	}
}
