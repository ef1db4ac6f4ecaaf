package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// RequestLocks is a store in which the processes that share it lock the ids of
// requests for each other.
type RequestLocks interface {
	// LockRequestID takes the lock for at most ttl. It reports false if the
	// lock is held.
	LockRequestID(ctx context.Context, m ledger.HandleHash, ttl time.Duration) (bool, error)
	// UnlockRequestID gives the lock back, now or once keep has passed.
	UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error
}

// unlockTime bounds giving a lock back. One that is not given back expires.
const unlockTime = 5 * time.Second

// LockRequestID locks the id of a request that goes to a server within a
// session, for all processes that share the store. It fails with ErrIDTaken,
// ErrSessionFull or a share.RefusedError, and with another error if the store
// cannot be asked. Call UnlockRequestID once the server has ended its response.
func (r *Runtime) LockRequestID(ctx context.Context, holder share.Holder, session, id string) error {
	if err := r.requests.lock(holder, session, id); err != nil {
		return err
	}
	if r.locks == nil {
		return nil
	}
	locked, err := r.locks.LockRequestID(ctx, requestHash(session, id), sessionTTL)
	switch {
	case err == nil && locked:
		return nil
	case err == nil:
		err = ErrIDTaken
	default:
		err = fmt.Errorf("taking the request's id: %w", err)
	}
	r.requests.unlock(session, id, false)
	return err
}

// UnlockRequestID ends a lock. With resumable the response may still come on
// another stream, so the id stays taken.
func (r *Runtime) UnlockRequestID(session, id string, resumable bool) {
	if r.locks != nil {
		ctx, cancel := context.WithTimeout(context.Background(), unlockTime)
		defer cancel()
		keep := time.Duration(0)
		if resumable {
			keep = sessionTTL
		}
		if err := r.locks.UnlockRequestID(ctx, requestHash(session, id), keep); err != nil {
			r.logger.Warn("the id of a request could not be given back: it stays taken in its session for a day", "error", err)
		}
	}
	r.requests.unlock(session, id, resumable)
}

// requestHash identifies a request in a store. It is not id.Hash: nodes of an
// older version, and locks that they took, go by this encoding.
func requestHash(session, id string) (m ledger.HandleHash) {
	h := sha256.New()
	fmt.Fprintf(h, "request %d %s %s", len(session), session, id)
	copy(m[:], h.Sum(nil))
	return m
}
