package platform

import (
	"context"
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Keys looks up the keys of callers and of paying agents, from memory if possible.
// Lookup returns keys.ErrUnknown, ErrFlood, or another error if the key could not be
// looked up.
type Keys interface {
	Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error)
}

// ErrFlood refuses a client that has sent too many unknown keys.
var ErrFlood = gate.ErrFlood

// Ledger reserves and settles charges like gate.Ledger, and looks up their orders.
type Ledger interface {
	gate.Ledger
	// OrderByID returns the order of a captured charge. It also returns the order of
	// a reservation in any state, as long as the ledger has the reservation.
	// Otherwise it returns ledger.ErrNotFound.
	OrderByID(ctx context.Context, id string) (ledger.Order, error)
	// Void is a durable Release that also works for an unknown id. For
	// ledger.SettleTime after the call, a capture under the id fails if its order comes
	// from a gateway or provider.
	Void(ctx context.Context, id string) error
	ChargeByID(ctx context.Context, id string) (ledger.Charge, error)
}

// Store keeps keys and bindings. It must only return keys and bindings that are
// already durable: gateways cache them, and are notified only of later changes.
type Store interface {
	// KeyByDigest returns the key, or keys.ErrUnknown.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
	// Key returns the key with the id, or ledger.ErrNotFound.
	Key(ctx context.Context, id string) (keys.Key, error)
	TouchKeys(ctx context.Context, used map[string]time.Time) error
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
	// Usage returns the current spending of an account, and the part spent by a
	// lineage.
	Usage(ctx context.Context, account, lineage string, test bool) (ledger.Usage, error)
	Bind(ctx context.Context, b ledger.Binding) error
	Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error)
}

// Revocations is the log of key changes; see engine.Revocations.
type Revocations interface {
	Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error)
	Leave(ctx context.Context, node string) error
	Changed() <-chan struct{}
}

// Watch is a function that watches the key with the given digest. The first channel
// receives a value when the key changes. The second channel is closed when the process
// shuts down. The caller must call the returned function in the end.
type Watch func(digest keys.Digest) (changed, closing <-chan struct{}, end func())

// Signer signs receipts.
type Signer interface {
	Sign(r ledger.Receipt) string
}
