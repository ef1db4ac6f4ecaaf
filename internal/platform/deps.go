package platform

import (
	"context"
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Keys finds the keys of callers and of agents that are to pay, from memory if
// it can. Its errors are keys.ErrUnknown, ErrFlood, or anything else when the
// answer is not known.
type Keys interface {
	Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error)
}

// ErrFlood says that a client has asked for too many keys that nobody has.
var ErrFlood = gate.ErrFlood

// Ledger reserves and settles charges, as gate.Ledger does, and tells what was
// ordered.
type Ledger interface {
	gate.Ledger
	// OrderByID returns the order of a reservation that is still remembered,
	// whatever became of it, or of a captured charge. Else ledger.ErrNotFound.
	OrderByID(ctx context.Context, id string) (ledger.Order, error)
	// Void is a Release that lasts, also of an id that is not known: for
	// ledger.SettleTime nothing is captured under it, if the order says who
	// settles it. It is durable when Void returns.
	Void(ctx context.Context, id string) error
	ChargeByID(ctx context.Context, id string) (ledger.Charge, error)
}

// Store keeps keys and bindings. What it answers is as durable as it is new:
// gateways keep it in a memory of their own, and are told only of later changes.
type Store interface {
	// KeyByDigest returns keys.ErrUnknown if there is none.
	KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error)
	// Key returns the key of an id, or ledger.ErrNotFound.
	Key(ctx context.Context, id string) (keys.Key, error)
	TouchKeys(ctx context.Context, used map[string]time.Time) error
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
	// Usage returns what an account has spent now, and what of it a lineage has.
	Usage(ctx context.Context, account, lineage string, test bool) (ledger.Usage, error)
	Bind(ctx context.Context, b ledger.Binding) error
	Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error)
}

// Revocations is the log of the changes of keys: see the runtime's.
type Revocations interface {
	Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error)
	Leave(ctx context.Context, node string) error
	Changed() <-chan struct{}
}

// Watch tells what serves a stream when the key of that digest was changed, by
// a value, and when everything ends, by closing. end must be called.
type Watch func(digest keys.Digest) (changed, closing <-chan struct{}, end func())

// Signer signs receipts.
type Signer interface {
	Sign(r ledger.Receipt) (string, error)
}
