package engine

import (
	"context"
	"fmt"
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
	// introduceTime bounds the storing of a node's description, so that the next renewal
	// is in time.
	introduceTime = LeaseTime / 2
	// retryEvery is the pause after a failed renewal.
	retryEvery = 100 * time.Millisecond
)

// trustedCache is the part of keycache.Cache that a follower needs.
type trustedCache interface {
	Clock() time.Duration
	ExtendTrust(from time.Duration, wall time.Time, ttl time.Duration)
	Revoke(keys.Digest)
	RevokeAll()
	Trusted() bool
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

	about atomic.Pointer[string] // description of this node; nil before it is known

	failure atomic.Pointer[error] // why the last renewal failed; nil if the renewal succeeded

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
	introduced := ""            // the description that the store has
	informed := f.cache.Clock() // last time at which streams knew of all changes or were asked to check their keys
	for ctx.Err() == nil {
		wake := f.log.Changed() // taken before the log is read; otherwise a wake-up could be missed
		position, more, err := f.renew(ctx, seen)
		wait := renewEvery
		switch {
		case err != nil:
			f.failure.Store(&err)
			if healthy {
				f.logger.Warn("changes of keys cannot be followed: what is known of keys is not believed until they can", "error", err)
			}
			wake, wait = nil, retryEvery
			introduced = "" // the store may drop the node's row during a long outage
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
			f.failure.Store(nil)
			introduced = f.introduce(ctx, introduced)
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

// introduce stores the description of this node, unless the store already has it. It
// returns the description that the store has.
func (f *follower) introduce(ctx context.Context, introduced string) string {
	shared, ok := f.log.(registry)
	about := f.about.Load()
	if !ok || about == nil || *about == introduced {
		return introduced
	}
	ctx, cancel := context.WithTimeout(ctx, introduceTime)
	defer cancel()
	if err := shared.Introduce(ctx, f.node, *about); err != nil {
		f.logger.Debug("the description of this node could not be stored, it will be tried again", "error", err)
		return introduced
	}
	return *about
}

// stale reports whether the cache has lost its trust, and why. A cache that still waits
// for its first lease, or that is behind but is reading the changes, is not stale. As
// long as such a cache is not trusted, each lookup asks the store.
func (f *follower) stale() (stale bool, cause error) {
	failure, lag := f.failure.Load(), f.lag()
	switch {
	case f.cache.Trusted():
		return false, nil
	case failure != nil:
		return true, *failure
	case lag >= LeaseTime:
		return true, fmt.Errorf("the last read that succeeded began %s ago", lag.Round(time.Millisecond))
	}
	return false, nil
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
		// Some nodes may not have seen the change. After LeaseTime, each of these has
		// lost its lease.
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
