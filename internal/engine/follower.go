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

// LeaseTime is for how long a node that cannot reach the store may still trust
// the keys in its memory. It bounds the time after which a deleted key is dead
// everywhere, even if a node is cut off.
const LeaseTime = 2 * time.Second

const (
	renewEvery = LeaseTime / 4
	// renewTime bounds one renewal; a later response would be worthless.
	renewTime = LeaseTime
	// retryEvery is the pause after a failed renewal.
	retryEvery = 100 * time.Millisecond
)

// trustedCache is a node's memory of keys; see keycache.Cache.
type trustedCache interface {
	Clock() time.Duration
	ExtendTrust(from time.Duration, wall time.Time, ttl time.Duration)
	Revoke(keys.Digest)
	RevokeAll()
}

// follower follows the changes of keys that other processes make to a shared
// store.
type follower struct {
	node    string // its name in the log
	log     Revocations
	cache   trustedCache
	changed func(keys.Digest) // called for each change
	missed  func()            // called when changes may have been missed
	logger  *slog.Logger
	asked   atomic.Int64 // start of the last successful renewal, on the cache's clock

	cancel context.CancelFunc
	done   chan struct{}
}

// follow starts to follow the log. Until the first renewal succeeds, the cache is
// not trusted.
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
	informed := f.cache.Clock() // streams knew of all changes, or had to check
	for ctx.Err() == nil {
		wake := f.log.Changed() // before reading the log, or we could miss a wake-up
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
		if more { // renew at once, which also acknowledges the changes just read
			continue
		}
		_ = clock.SleepOr(ctx, wait, wake) // the loop checks ctx
	}
}

// renew reads new changes and applies them before it extends trust in the cache.
func (f *follower) renew(ctx context.Context, seen int64) (position int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	began, wall := f.cache.Clock(), clock.Now()
	r, err := f.log.Follow(ctx, f.node, seen, LeaseTime)
	if err != nil {
		return seen, false, err
	}
	if r.Gap || seen < 0 { // a node's first lease does not cover the changes before it
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

// confirm waits until no other node trusts a key as it was before the call, at
// most for LeaseTime.
func (f *follower) confirm() { Confirm(f.log, f.node) }

// Confirm waits until no node but this one trusts a key as it was before the
// call, at most for LeaseTime.
func Confirm(log Revocations, node string) {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(context.Background(), LeaseTime)
	defer cancel()
	if err := log.Confirm(ctx, node); err != nil {
		// Any node that has not seen the change by then has lost its lease.
		_ = clock.Sleep(context.Background(), clock.Until(began.Add(LeaseTime)))
	}
}

// stop ends the following and the node's lease, so that nobody waits for it.
func (f *follower) stop() {
	f.cancel()
	<-f.done
	f.cache.ExtendTrust(f.cache.Clock(), clock.Now(), 0) // calls that outlast the shutdown must not trust it
	ctx, cancel := context.WithTimeout(context.Background(), renewTime)
	defer cancel()
	if err := f.log.Leave(ctx, f.node); err != nil {
		f.logger.Debug("the lease could not be ended, it will lapse", "error", err)
	}
}
