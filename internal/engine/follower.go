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

// LeaseTime is how long a node that cannot reach the store may still trust the keys
// in its memory. It also bounds the time until a deleted key is refused everywhere,
// even by a node that is cut off.
const LeaseTime = 2 * time.Second

const (
	renewEvery = LeaseTime / 4
	// renewTime bounds one renewal. A later response would be useless, because the
	// lease would have expired.
	renewTime = LeaseTime
	// retryEvery is the pause after a failed renewal.
	retryEvery = 100 * time.Millisecond
)

// trustedCache is the part of keycache.Cache that a follower needs.
type trustedCache interface {
	Clock() time.Duration
	ExtendTrust(from time.Duration, wall time.Time, ttl time.Duration)
	Revoke(keys.Digest)
	RevokeAll()
}

// follower follows the key changes that other processes make in a shared store.
type follower struct {
	node    string // name of this node in the log
	log     Revocations
	cache   trustedCache
	changed func(keys.Digest) // called for each change
	missed  func()            // called when changes may have been missed
	logger  *slog.Logger
	asked   atomic.Int64 // start of the last successful renewal, on the cache's clock

	cancel context.CancelFunc
	done   chan struct{}
}

// follow starts a follower of the log. The cache is not trusted until the first
// renewal succeeds.
func follow(log Revocations, cache trustedCache, changed func(keys.Digest), missed func(), logger *slog.Logger) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		node: uuid.NewString(), log: log, cache: cache, changed: changed, missed: missed, logger: logger,
		cancel: cancel, done: make(chan struct{}),
	}
	cache.ExtendTrust(cache.Clock(), clock.Now(), 0)
	f.asked.Store(int64(cache.Clock()))
	go f.run(ctx)
	return f
}

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	seen, healthy := int64(-1), true
	informed := f.cache.Clock() // last time at which streams knew of all changes or were asked to check
	for ctx.Err() == nil {
		wake := f.log.Changed() // taken before the log is read; otherwise a wake-up could be missed
		position, more, err := f.renew(ctx, seen)
		wait := renewEvery
		switch {
		case err != nil:
			if healthy {
				f.logger.Warn("changes of keys cannot be followed: what is known of keys is not believed until they can", "error", err)
			}
			wake, wait = nil, retryEvery
			if now := f.cache.Clock(); now-informed >= LeaseTime && ctx.Err() == nil {
				f.missed()
				informed = now
			}
		case !healthy:
			f.logger.Info("changes of keys can be followed again")
		}
		healthy = err == nil
		if healthy {
			seen, informed = position, time.Duration(f.asked.Load())
		}
		if more { // renew at once, which also acknowledges the changes that were just read
			continue
		}
		_ = clock.SleepOr(ctx, wait, wake) // the loop checks ctx
	}
}

// renew reads new changes and applies them before it extends the cache's trust.
func (f *follower) renew(ctx context.Context, seen int64) (position int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	began, wall := f.cache.Clock(), clock.Now()
	r, err := f.log.Follow(ctx, f.node, seen, LeaseTime)
	if err != nil {
		return seen, false, err
	}
	if r.Gap || seen < 0 { // before its first lease, the node may have missed changes
		f.cache.RevokeAll()
		f.missed()
	}
	for _, d := range r.Digests {
		f.cache.Revoke(d)
		f.changed(d)
	}
	f.asked.Store(int64(began))
	if !r.More {
		f.cache.ExtendTrust(began, wall, LeaseTime)
	}
	return r.Position, r.More || r.Gap || len(r.Digests) > 0, nil
}

// lag returns the time since the start of the last successful renewal.
func (f *follower) lag() time.Duration { return f.cache.Clock() - time.Duration(f.asked.Load()) }

// confirm waits until no other node trusts a key as it was before the call. It waits
// at most LeaseTime.
func (f *follower) confirm() { Confirm(f.log, f.node) }

// Confirm waits until no node except the given one trusts a key as it was before the
// call. It waits at most LeaseTime.
func Confirm(log Revocations, node string) {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(context.Background(), LeaseTime)
	defer cancel()
	if err := log.Confirm(ctx, node); err != nil {
		// Any node that has not seen the change by then has lost its lease.
		_ = clock.Sleep(context.Background(), clock.Until(began.Add(LeaseTime)))
	}
}

// stop stops following the log and ends the node's lease, so that no other process
// waits for this node.
func (f *follower) stop() {
	f.cancel()
	<-f.done
	f.cache.ExtendTrust(f.cache.Clock(), clock.Now(), 0) // calls that outlast the shutdown must not trust the cache
	ctx, cancel := context.WithTimeout(context.Background(), renewTime)
	defer cancel()
	if err := f.log.Leave(ctx, f.node); err != nil {
		f.logger.Debug("the lease could not be ended, it will lapse", "error", err)
	}
}
