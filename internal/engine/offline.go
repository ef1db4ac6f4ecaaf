package engine

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Offline returns what makes a change of a key hold everywhere that is made by a
// process which has opened the store for a moment, beside those that serve: it
// waits for who follows the store's log, and where the log is in the memory of
// the process that serves, for the leases that the last one may have given.
func Offline(ctx context.Context, store Store) admin.Revoker {
	if shared, ok := store.(Revocations); ok {
		return offline{shared}
	}
	return offline{newBoard(clock.Now, formerLeases(ctx, store))}
}

type offline struct{ log Revocations }

// Revoke returns when nobody believes any longer what was known of keys before.
func (o offline) Revoke(keys.Digest) { Confirm(o.log, "offline") }

// Outlive returns when no node believes any longer what it knows by a lease that
// was given before, for a store whose keys were all replaced.
func Outlive(ctx context.Context) error {
	timer := time.NewTimer(LeaseTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
