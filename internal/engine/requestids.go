package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// RequestLocks is implemented by stores that several processes share. While a
// process holds the lock of a request id in the store, no other process can use the
// id.
type RequestLocks interface {
	// LockRequestID takes the lock for at most the given time. It returns false if the
	// lock is already held.
	LockRequestID(ctx context.Context, m ledger.HandleHash, ttl time.Duration) (bool, error)
	// UnlockRequestID releases the lock after the given time, or immediately if the
	// time is zero.
	UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error
}

// unlockTime bounds the release of a lock. A lock that is not released expires.
const unlockTime = 5 * time.Second

// LockRequestID locks the id of a request to a server within a session, for all
// processes that share the store. It fails with ErrIDTaken, ErrSessionFull or a
// share.RefusedError, and with another error if the store cannot be asked. Call
// UnlockRequestID after the server has ended its response.
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

// UnlockRequestID releases a lock. If resumable is true, the response may still
// arrive on another stream, so the id stays taken.
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

// requestHash identifies a request in a store. It does not use id.Hash, because
// nodes of older versions, and the locks that they took, use this encoding.
func requestHash(session, id string) (m ledger.HandleHash) {
	h := sha256.New()
	fmt.Fprintf(h, "request %d %s %s", len(session), session, id)
	copy(m[:], h.Sum(nil))
	return m
}
