package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// Claims is a store in which processes take marks for all of them.
type Claims interface {
	// Claim takes the mark for that long, and reports false if somebody has it.
	LockRequestID(ctx context.Context, m ledger.HandleHash, life time.Duration) (bool, error)
	// Unclaim gives it back, or has it end after that long.
	UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error
}

// unclaimTime bounds how long giving a mark back may take. One that is not given
// back ends by itself.
const unclaimTime = 5 * time.Second

// Claim takes the id of a request that goes to a server within a session, for all
// processes that share the store, or says why it cannot be used: ErrIDTaken,
// ErrSessionFull, a share.RefusedError, or another error if that is not known. What was claimed must be
// given back by Unclaim, when the server has ended its answer.
func (r *Runtime) LockRequestID(ctx context.Context, who share.Holder, session, id string) error {
	if err := r.requests.claim(who, session, id); err != nil {
		return err
	}
	if r.claims == nil {
		return nil
	}
	taken, err := r.claims.LockRequestID(ctx, markOf(session, id), usedFor)
	switch {
	case err == nil && taken:
		return nil
	case err == nil:
		err = ErrIDTaken
	default:
		err = fmt.Errorf("taking the request's id: %w", err)
	}
	r.requests.release(session, id, false)
	return err
}

// Unclaim ends a Claim. With resumable the answer may still come on another
// stream, so the id stays taken.
func (r *Runtime) UnlockRequestID(session, id string, resumable bool) {
	if r.claims != nil {
		ctx, cancel := context.WithTimeout(context.Background(), unclaimTime)
		defer cancel()
		keep := time.Duration(0)
		if resumable {
			keep = usedFor
		}
		if err := r.claims.UnlockRequestID(ctx, markOf(session, id), keep); err != nil {
			r.logger.Warn("the id of a request could not be given back: it stays taken in its session for a day", "error", err)
		}
	}
	r.requests.release(session, id, resumable)
}

// markOf is what an id of a session is known by.
func markOf(session, id string) (m ledger.HandleHash) {
	h := sha256.New()
	fmt.Fprintf(h, "request %d %s %s", len(session), session, id)
	copy(m[:], h.Sum(nil))
	return m
}
