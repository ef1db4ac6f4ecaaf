package engine

import (
	"context"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Offline returns a Revoker for a process that opens the store only briefly,
// beside the ones that serve or while none does. It waits for the nodes that
// follow the store's log. If the log is in the memory of the serving process, it
// waits for the leases that the last one may have granted.
func Offline(ctx context.Context, store Store) admin.Revoker {
	if shared, ok := store.(Revocations); ok {
		return offline{shared}
	}
	return offline{newRevocationLog(clock.Now, formerLeases(ctx, store))}
}

type offline struct{ log Revocations }

// Revoke waits until no node trusts a key as it was before the call.
func (o offline) Revoke(keys.Digest) { Confirm(o.log, "offline") }

// Outlive waits until every lease that was granted before the call has expired,
// for a store in which all keys were replaced.
func Outlive(ctx context.Context) error { return clock.Sleep(ctx, LeaseTime) }
