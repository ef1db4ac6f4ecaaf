// Package engine holds what outlives a config: the store, the cache of keys
// in front of it, and the installation's own keys. Caddy starts a new config
// before it stops the old one, and requests of the old one may still run after
// its end; so a Runtime is shared by all configs that name the same store, and
// each request holds a lease on it. Closing waits for the leases first, and
// then closes cache and store, in that order.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// Store is what a runtime keeps open. Each part belongs to its consumer. One that
// has admin.Store as well has operations, see Runtime.Service, and one that has
// Revocations is changed by other processes, too.
type Store interface {
	keycache.Origin
	gate.Ledger
	gate.Bindings
	// TouchKeys notes when keys, by their ids, were last used.
	TouchKeys(ctx context.Context, used map[string]time.Time) error
	// OpenReservations counts the reservations that hold credits now.
	OpenReservations() int
	// UseCurrency says what the amounts of a config are of. A store of another
	// currency fails with a *ledger.CurrencyError.
	UseCurrency(ctx context.Context, code string) error
	// Healthy returns nil, or why the store cannot write now.
	Healthy() error
	// Close makes everything durable and frees the store.
	Close() error
}

// managed is a store that keys and accounts are managed in, here and not at a
// platform.
type managed interface {
	admin.Store
	// CountExpiring counts, for each of the times, the keys that can be used
	// now and expire at that time or before.
	CountExpiring(ctx context.Context, until []time.Time) ([]int64, error)
}

// Options of a runtime. All must be set.
type Options struct {
	// Open opens the store.
	Open func(ctx context.Context) (Store, error)
	// KeyFile holds the seed of the key that signs receipts. It is made, of
	// mode 0600, if it is not there. ReceiptKeysFile of it holds the public
	// keys, for ever.
	KeyFile string
	// SealFile holds the keys that seal session ids and event ids. It is made,
	// of mode 0600, if it is not there.
	SealFile string
	// DebtDir is the directory of the refunds that are owed. It is made, of mode
	// 0700, when there is one. It must be of one store only.
	DebtDir string
	// DebtBy tells who asks the store, if that refunds only what who asks has
	// captured and says of all else that it does not know it; else it is "".
	// Processes that share DebtDir may differ in it.
	DebtBy  string
	Cache   keycache.Options
	IDs     *share.Budget // of requests in sessions
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
}

// drainTime bounds how long closing waits for calls in flight.
const drainTime = 30 * time.Second

// Runtime is an open store with its cache. It is safe for concurrent use.
type Runtime struct {
	store    Store
	cache    *keycache.Cache
	signer   *ledger.Signer
	sealer   *gate.Sealer
	service  *admin.Service // nil if the store has no operations
	metrics  *telemetry.Metrics
	logger   *slog.Logger
	leases   *leases
	settings atomic.Pointer[admin.Settings]
	misses   *misses
	streams  *streams
	usage    *usage
	names    *names
	expiring *expiring
	debts    *debts

	requests  *requests
	abandoned *abandoned
	rates     *rates

	log  Revocations
	own  *board // the log, where this process owns the store; else nil
	node *node  // follows the log of a store that others change, too; else nil

	rules atomic.Pointer[map[string]string] // of the running config, by server

	claims Claims // of the store, where processes share it; else nil

	unwatch func()
}

// Open opens the store and what belongs to it.
func Open(ctx context.Context, o Options) (*Runtime, error) {
	store, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	signer, err := LoadSigner(o.KeyFile)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	published, err := publish(ReceiptKeysFile(o.KeyFile), signer.Public())
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	sealer, err := loadSealer(o.SealFile, clock.Now())
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	cache, err := keycache.New(store, bounded(store, o.Cache))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	r := &Runtime{
		store: store, cache: cache, signer: signer, sealer: sealer,
		metrics: o.Metrics, logger: o.Logger, leases: newLeases(),
		abandoned: newAbandoned(clock.Now), rates: newRates(), requests: newRequests(clock.Now, o.IDs),
		misses: newMisses(clock.Now), streams: newStreams(), usage: newUsage(store.TouchKeys, o.Logger), names: newNames(store),
	}
	if managed, ok := store.(managed); ok {
		r.service = admin.New(managed, r, r.settings.Load, now).WithReceiptKeys(published).WithSigner(signer)
		r.expiring = newExpiring(managed.CountExpiring, clock.Now, o.Logger)
	}
	r.settings.Store(new(admin.Settings))
	r.claims, _ = store.(Claims)
	if shared, ok := store.(Revocations); ok {
		r.log = shared
		r.node = follow(shared, cache, r.streams.tell, r.streams.tellAll, o.Logger)
	} else {
		r.own = newBoard(clock.Now, formerLeases(ctx, store))
		r.log = r.own
	}
	r.debts = newDebts(o.DebtDir, o.DebtBy, store, o.Logger)
	r.unwatch = o.Metrics.Watch(r)
	return r, nil
}

// formerLeases returns for how long nodes may believe what they know by leases
// that this process did not give: it takes a key of its kind to get one.
func formerLeases(ctx context.Context, store Store) time.Duration {
	managed, ok := store.(managed)
	if !ok {
		return LeaseTime
	}
	gateways, _, err := managed.Keys(ctx, ledger.KeyFilter{Page: ledger.Page{Limit: 1}, Kind: keys.Gateway.String()})
	if err == nil && len(gateways) == 0 {
		return 0
	}
	return LeaseTime
}

// now is the wall clock at the resolution that stores keep.
func now() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }

// Acquire takes a lease, under which the runtime stays open. Release must be
// called exactly once. It fails with ErrClosed.
func (r *Runtime) Acquire() error { return r.leases.acquire() }

// Release gives a lease back.
func (r *Runtime) Release() { r.leases.release() }

// Configure applies a config's settings in place: of the cache, and of keys,
// which must not be changed afterwards.
func (r *Runtime) Configure(o keycache.Options, settings *admin.Settings) {
	r.cache.Configure(bounded(r.store, o))
	r.settings.Store(settings)
}

// UseCurrency says what the amounts of a config are of. It needs a lease. A store
// of another currency fails with a *ledger.CurrencyError.
func (r *Runtime) UseCurrency(ctx context.Context, code string) error {
	return r.store.UseCurrency(ctx, code)
}

// bounded lets nothing be believed for longer than the store's answers hold.
func bounded(store Store, o keycache.Options) keycache.Options {
	if s, ok := store.(interface{ MaxBelief() time.Duration }); ok {
		o.TTL = min(o.TTL, s.MaxBelief())
	}
	return o
}

// SetRules tells by which rules each server is used now, as texts that differ
// where the rules do. It returns what they were.
func (r *Runtime) SetRules(rules map[string]string) (before map[string]string) {
	if was := r.rules.Swap(&rules); was != nil {
		before = *was
	}
	return before
}

// RulesOf returns the rules of a server now, "" if the running config has none.
func (r *Runtime) RulesOf(server string) string {
	if rules := r.rules.Load(); rules != nil {
		return (*rules)[server]
	}
	return ""
}

// CheckStreams has those who serve streams look at their keys and rules again.
func (r *Runtime) CheckStreams() { r.streams.tellAll() }

// Service returns the operations on the store, or nil if it has none: its
// accounts and keys are managed elsewhere. They need a lease.
func (r *Runtime) Service() *admin.Service { return r.service }

// Gate returns a gate to a server under the policy. Its use needs a lease.
func (r *Runtime) Gate(p gate.Policy) *gate.Gate {
	return gate.New(p, gate.Deps{
		Keys: r, Watch: r.watchCaller, Ledger: r.store, Bindings: r.store, Debts: r.debts, Abandonments: r.abandoned, Limiter: r.rates, Signer: r.signer, Sealer: r.sealer, Metrics: r.metrics.Meter(p.Server),
		Logger: r.logger, Now: clock.Now, NewID: id.New,
	})
}

func (r *Runtime) watchCaller(d keys.Digest) gate.Watch {
	s := r.Watch(d)
	return gate.Watch{Changed: s.Changed, Closing: s.Closing, End: s.End}
}

// Limiter counts the requests of keys. Its use needs a lease.
func (r *Runtime) Limiter() gate.Limiter { return r.rates }

// Lookup returns the key of the digest, from the cache or the store. A client
// that asked for too many keys that nobody has gets gate.ErrFlood.
func (r *Runtime) Lookup(ctx context.Context, client netip.Addr, d keys.Digest) (*keys.Key, error) {
	began := clock.Now()
	key, source, err := r.cache.Cached(d)
	if source == keycache.SourceStore {
		key, source, err = r.load(ctx, client, d, errors.Is(err, keycache.ErrStale))
	}
	result := "found"
	switch {
	case errors.Is(err, keys.ErrUnknown):
		result = "unknown"
	case errors.Is(err, gate.ErrFlood):
		result = "limited"
	case err != nil:
		result = "error"
	}
	r.metrics.Lookup(source.String(), result, clock.Since(began))
	return key, err
}

// Used notes that something was done by a key. What it was refused is no use.
func (r *Runtime) Used(k *keys.Key) { r.usage.note(k.ID, clock.Now()) }

// load asks the store. A key that it knew a moment ago is not limited: a flood
// from the same address must not lock its holder out.
func (r *Runtime) load(ctx context.Context, client netip.Addr, d keys.Digest, known bool) (*keys.Key, keycache.Source, error) {
	if !known && !r.misses.take(client) {
		return nil, keycache.SourceStore, gate.ErrFlood
	}
	key, source, err := r.cache.Lookup(ctx, d)
	if !known && !errors.Is(err, keys.ErrUnknown) && ctx.Err() == nil { // who hangs up has still had the store asked
		r.misses.give(client)
	}
	return key, source, err
}

// Revoke makes every lookup that begins afterwards ask the store for the key, in
// this process and in all others that share the store or follow this one, and
// tells those who serve streams of it. It takes LeaseTime at the most.
func (r *Runtime) Revoke(d keys.Digest) {
	r.cache.Revoke(d)
	r.streams.tell(d)
	if r.node != nil {
		r.node.confirm()
		return
	}
	r.own.Append(d)
	// It ends by itself, when the last lease does.
	_ = r.own.Confirm(context.Background(), "")
}

// Revocations returns the log of the changes of keys. Its use needs a lease.
func (r *Runtime) Revocations() Revocations { return r.log }

// Watch returns a stream of the key, whose end must be told. What serves it
// checks the key again each time that it was changed.
func (r *Runtime) Watch(d keys.Digest) *Stream { return r.streams.watch(d) }

// OpenReservations counts the store's open reservations.
func (r *Runtime) OpenReservations() int { return r.store.OpenReservations() }

// RefundsOwed counts the refunds that are owed and could not be made yet.
func (r *Runtime) RefundsOwed() int { return r.debts.Owed() }

// CacheEntries counts the keys in the cache.
func (r *Runtime) CacheEntries() int { return r.cache.Len() }

// RevocationLag tells how old the knowledge of changes of keys is that other
// processes make; 0 where none does.
func (r *Runtime) RevocationLag() time.Duration {
	if r.node == nil {
		return 0
	}
	return r.node.lag()
}

// StoreUp reports whether the store can write.
func (r *Runtime) StoreUp() bool { return r.store.Healthy() == nil }

// ExpiringKeys counts, for each of the times from now, the keys that can be used
// and expire within it, as of at most half a minute ago; false if the store
// could not be asked then, or is being closed.
func (r *Runtime) ExpiringKeys(within []time.Duration) ([]int64, bool) {
	if r.Acquire() != nil {
		return nil, false
	}
	defer r.Release()
	if r.expiring == nil {
		return nil, false
	}
	return r.expiring.counts(within)
}

// EndStreams tells all open streams to end, and those that are opened later.
func (r *Runtime) EndStreams() { r.streams.end() }

// Destruct closes the runtime after the calls in flight, but waits for them
// for half a minute at most. Streams are told to end, since they would not by
// themselves. It is to be called once.
func (r *Runtime) Destruct() error {
	r.EndStreams()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := r.leases.drain(ctx); err != nil {
		r.logger.Warn("closing the store under calls that are still in flight", "waited", drainTime)
	}
	if r.node != nil {
		r.node.stop()
	}
	r.unwatch()
	r.debts.close()
	r.usage.close()
	r.cache.Close()
	if err := r.store.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}
