package platform

import (
	"context"
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Keys finds the keys of callers and of paying agents, in memory if possible. Errors
// are keys.ErrUnknown, ErrFlood, and any other if the key could not be looked up.
type Keys interface {
	Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error)
}

// ErrFlood refuses a client that has sent too many unknown keys.
var ErrFlood = gate.ErrFlood

// Ledger reserves and settles charges, as gate.Ledger does, and finds their orders.
type Ledger interface {
	gate.Ledger
	// OrderByID returns the order of a captured charge, or of a reservation in any
	// state that the ledger still has. Otherwise it returns ledger.ErrNotFound.
	OrderByID(ctx context.Context, id string) (ledger.Order, error)
	// Void is a durable Release, also of an unknown id: for ledger.SettleTime nothing
	// is captured under the id, if its order has a settler.
	Void(ctx context.Context, id string) error
	ChargeByID(ctx context.Context, id string) (ledger.Charge, error)
}

// Store keeps keys and bindings. It must only return state that is durable: gateways
// cache it, and receive later changes only.
type Store interface {
	// KeyByDigest returns keys.ErrUnknown if there is none.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
	// Key returns the key of an id, or ledger.ErrNotFound.
	Key(ctx context.Context, id string) (keys.Key, error)
	TouchKeys(ctx context.Context, used map[string]time.Time) error
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
	// Usage returns the current spending of an account, and the part of a lineage.
	Usage(ctx context.Context, account, lineage string, test bool) (ledger.Usage, error)
	Bind(ctx context.Context, b ledger.Binding) error
	Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error)
}

// Revocations is the log of the changes of keys; see the engine's.
type Revocations interface {
	Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error)
	Leave(ctx context.Context, node string) error
	Changed() <-chan struct{}
}

// Watch sends a value to changed when the key with that digest changes, and closes
// closing when the process shuts down. The caller must call end.
type Watch func(digest keys.Digest) (changed, closing <-chan struct{}, end func())

// Signer signs receipts.
type Signer interface {
	Sign(r ledger.Receipt) (string, error)
}
