package engine

import (
	"context"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Offline returns a Revoker for a process that opens the store only briefly, whether or
// not another process serves from it. If the store has a shared log, the Revoker waits
// for the nodes that follow the log. If the log is only in the memory of the serving
// process, the Revoker waits for all leases that the last serving process may have
// granted.
func Offline(ctx context.Context, store Store) admin.Revoker {
	if shared, ok := store.(Revocations); ok {
		return offline{shared}
	}
	return offline{newRevocationLog(clock.Now, formerLeases(ctx, store))}
}

type offline struct{ log Revocations }

// Revoke waits until no node trusts a key as it was before the call.
func (o offline) Revoke(keys.Digest) { Confirm(o.log, "offline") }

// RevokeEach waits like Revoke, once for all digests.
func (o offline) RevokeEach([]keys.Digest) { Confirm(o.log, "offline") }

// Outlive waits until every lease that was granted before the call has expired. It is
// for a store in which all keys were replaced.
func Outlive(ctx context.Context) error { return clock.Sleep(ctx, LeaseTime) }
