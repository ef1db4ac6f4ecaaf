// Package engine holds the state that outlives a config: the store, the cache of
// keys in front of it, and the installation's own keys. Caddy starts a new config
// before it stops the old one, and requests of the old config may still run after
// that. So all configs that name the same store share one Runtime, and each request
// holds a reference to it. When a Runtime is closed, it waits until all references
// are released, but only for a bounded time. Then it closes the cache and the store,
// in that order.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/telemetry"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Store is the store of a runtime. Each embedded interface belongs to the package that
// uses it. If the store also implements admin.Store, the runtime has operations; see
// Runtime.Service. If the store implements Revocations, other processes change the
// store, too. See also RequestLocks.
type Store interface {
	keycache.Origin
	gate.Ledger
	gate.Bindings
	// TouchKeys records when keys were last used, by key id.
	TouchKeys(ctx context.Context, used map[string]time.Time) error
	// OpenReservations counts the reservations that hold credits now.
	OpenReservations() int
	// UseCurrency sets the currency of all amounts. It fails with a
	// *ledger.CurrencyError if the store already has another currency.
	UseCurrency(ctx context.Context, code string) error
	// Healthy returns nil, or the reason why the store cannot write now.
	Healthy() error
	// Close makes all writes durable and releases the store.
	Close() error
}

// managed is a store with accounts and keys that this process may manage. The
// store of a platform's gateway is not managed.
type managed interface {
	admin.Store
	// CountExpiring returns, for each deadline, the number of keys that are usable now
	// and expire by the deadline.
	CountExpiring(ctx context.Context, deadlines []time.Time) ([]int64, error)
}

// Options configure a runtime. All fields except Kind and DebtBy must be set.
type Options struct {
	// Open opens the store.
	Open func(ctx context.Context) (Store, error)
	// Kind is the kind of store, for metrics.
	Kind string
	// KeyFile holds the seed of the key that signs receipts. If the file is missing, it
	// is created with mode 0600. The public keys are kept in ReceiptKeysFile(KeyFile).
	KeyFile string
	// SealFile holds the keys that seal session ids and event ids. If the file is
	// missing, it is created with mode 0600.
	SealFile string
	// DebtDir is the directory of the refunds that are owed. It is created with mode
	// 0700 when the first refund is owed. Each store needs its own directory.
	DebtDir string
	// DebtBy identifies this process to a store that refunds a charge only to the
	// caller that captured the charge. Such a store reports the charges of others as
	// unknown. For other stores DebtBy is "". Processes that share DebtDir may have
	// different values.
	DebtBy  string
	Cache   keycache.Options
	IDs     *share.Budget // bounds the number of request ids that are remembered for sessions
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
}

// drainTime bounds how long Destruct waits for calls in flight.
const drainTime = 30 * time.Second

// Runtime is an open store with its cache. It is safe for concurrent use.
type Runtime struct {
	store    Store
	kind     string
	cache    *keycache.Cache
	signer   *ledger.Signer
	sealer   *gate.Sealer
	service  *admin.Service       // nil if accounts and keys are managed elsewhere
	people   *people.Service      // nil if the store keeps no people
	oauth    *oauth.Service       // nil if the store keeps no grants
	sweeper  *background          // nil if the store keeps no grants
	alerts   *alerts              // nil if the store keeps no alerts
	survey   *survey              // nil if the store cannot be measured
	verifier *verifier            // nil if the books are kept elsewhere
	roller   *roller              // nil if usage is summed up elsewhere
	calls    *callrecord.Recorder // nil if the store keeps no records of calls
	metrics  *telemetry.Metrics
	logger   *slog.Logger
	refs     *refs
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

	log      Revocations
	ownLog   *revocationLog // the same log if this process owns the store, otherwise nil
	follower *follower      // follows log if other processes change the store, otherwise nil

	rules atomic.Pointer[map[string]string] // rules of the running config, by server

	locks RequestLocks // nil if this process owns the store

	id   string                          // name of this process among the nodes at the store
	self atomic.Pointer[NodeDescription] // never nil

	unwatch func()
}

// Open opens the store and starts the background tasks.
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
		store: store, kind: o.Kind, cache: cache, signer: signer, sealer: sealer,
		metrics: o.Metrics, logger: o.Logger, refs: newRefs(),
		abandoned: newAbandoned(clock.Now), rates: newRates(), requests: newRequests(clock.Now, o.IDs),
		misses: newMisses(uptime()), streams: newStreams(), usage: newUsage(store.TouchKeys, o.Logger), names: newNames(store),
	}
	if managed, ok := store.(managed); ok {
		r.service = admin.New(managed, r, r.settings.Load, now).WithReceiptKeys(published).WithSigner(signer).WithUses(r.usage.unwritten).WithRefunds(r.refundedBy(telemetry.RefundByOperator)).
			WithVerifications(NodeName(), func(err error) { o.Logger.Warn("the books could not be verified", "error", err) })
		r.oauth = NewOAuth(store, r.service, r.settings.Load)
		r.people = NewPeople(store, r.service, r.oauth, o.Logger)
		r.alerts = runAlerts(NewAlerts(store, r.service, o.Metrics, o.Logger))
		if calls := NewCalls(store); calls != nil {
			r.service.WithCalls(calls)
			r.calls = callrecord.New(calls, o.Metrics, o.Logger)
		}
		r.expiring = newExpiring(managed.CountExpiring, clock.Now, o.Logger)
	}
	r.settings.Store(new(admin.Settings))
	r.locks, _ = store.(RequestLocks)
	if shared, ok := store.(Revocations); ok {
		r.log = shared
		r.follower = follow(shared, cache, r.streams.notify, r.streams.notifyAll, o.Logger)
		r.id = r.follower.node
	} else {
		r.ownLog = newRevocationLog(clock.Now, formerLeases(ctx, store))
		r.log = r.ownLog
		r.id = uuid.NewString()
	}
	r.Describe("")
	if r.service != nil {
		r.verifier = newVerifier(r.service.Verify, r.follower == nil, o.Logger)
	}
	if store, ok := store.(summing); ok {
		r.roller = newRoller(store.SumUsage, o.Logger)
	}
	if measured, ok := store.(measured); ok {
		r.survey = newSurvey(measured.Sizes, o.Logger)
	}
	r.debts = newDebts(o.DebtDir, o.DebtBy, store, r.refundedBy(telemetry.RefundUndelivered), o.Logger)
	r.sweeper = runSweeps(r.oauth, o.Logger)
	r.unwatch = o.Metrics.Watch(r)
	return r, nil
}

// formerLeases returns how long the leases that a previous process granted may still
// last. It returns 0 if no gateway key exists, because only nodes with gateway keys get
// leases.
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

// now returns the wall-clock time, truncated to the resolution of the stores.
func now() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }

// Acquire takes a reference, which keeps the runtime open until Release. It fails
// with ErrClosed if the runtime is closing.
func (r *Runtime) Acquire() error { return r.refs.acquire() }

// Release releases a reference. Call it exactly once for each Acquire.
func (r *Runtime) Release() { r.refs.release() }

// Configure applies a config to the running runtime: the options of the cache, the
// settings of operations on keys, and the pause between two verifications of the books.
// A pause of 0 means that the books are never verified. The caller must not change the
// settings afterwards.
func (r *Runtime) Configure(o keycache.Options, settings *admin.Settings, verifyEvery time.Duration) {
	r.cache.Configure(bounded(r.store, o))
	r.settings.Store(settings)
	r.verifier.setEvery(verifyEvery)
}

// UseCurrency sets the currency of all amounts; see Store. The caller must hold a
// reference to the runtime; see Acquire.
func (r *Runtime) UseCurrency(ctx context.Context, code string) error {
	return r.store.UseCurrency(ctx, code)
}

// bounded limits the lifetime of cached keys to the maximum that the store allows.
func bounded(store Store, o keycache.Options) keycache.Options {
	if s, ok := store.(interface{ MaxBelief() time.Duration }); ok {
		o.TTL = min(o.TTL, s.MaxBelief())
	}
	return o
}

// SetRules sets the access rules of each server and returns the previous ones. The
// rules of a server are encoded as a string, only to be compared: two strings are equal
// if and only if the rules are equal.
func (r *Runtime) SetRules(rules map[string]string) (before map[string]string) {
	if was := r.rules.Swap(&rules); was != nil {
		before = *was
	}
	return before
}

// RulesOf returns the current rules of a server, or "" if the config has no such
// server.
func (r *Runtime) RulesOf(server string) string {
	if rules := r.rules.Load(); rules != nil {
		return (*rules)[server]
	}
	return ""
}

// CheckStreams makes all open streams check their keys and rules again.
func (r *Runtime) CheckStreams() { r.streams.notifyAll() }

// Service returns the operations on the store, or nil if its accounts and keys are
// managed elsewhere. The caller must hold a reference to the runtime; see Acquire.
func (r *Runtime) Service() *admin.Service { return r.service }

// Gate returns a gate to a server with the given policy, which also admits the further
// kinds of credentials. Users of the gate must hold a reference to the runtime; see
// Acquire.
func (r *Runtime) Gate(p gate.Policy, further ...gate.Authenticator) *gate.Gate {
	return gate.New(p, gate.Deps{
		Keys: r, Authenticators: further, Watch: r.watchCaller, Ledger: r.store, Bindings: r.store, Debts: r.debts, Abandonments: r.abandoned, Limiter: r.rates, Signer: r.signer, Sealer: r.sealer, Metrics: r.metrics.Site(p.Server),
		Logger: r.logger, Now: clock.Now, NewID: id.New,
	})
}

func (r *Runtime) watchCaller(d keys.Digest) gate.Watch {
	s := r.Watch(d)
	return gate.Watch{Changed: s.Changed, Closing: s.Closing, End: s.End}
}

// Limiter returns the limiter of requests by key. Users of the limiter must hold a
// reference to the runtime; see Acquire.
func (r *Runtime) Limiter() gate.Limiter { return r.rates }

// Lookup returns the key with the given digest, from the cache or the store. It fails
// with gate.ErrFlood if the client has asked for too many unknown keys.
func (r *Runtime) Lookup(ctx context.Context, client netip.Addr, d keys.Digest) (*keys.Key, error) {
	began := clock.Now()
	counted := false
	key, source, err := r.cache.Lookup(ctx, d, func(stale bool) error {
		// The cache knows this key, but must ask the store again. A flood of unknown
		// tokens from the same address must not lock out the holder of a known key.
		if stale {
			return nil
		}
		if counted = r.misses.take(client); !counted {
			return gate.ErrFlood
		}
		return nil
	})
	// Take the count back, unless the key is unknown or the client has hung up. A
	// client could otherwise avoid the limit by hanging up.
	if counted && !errors.Is(err, keys.ErrUnknown) && ctx.Err() == nil {
		r.misses.give(client)
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
	trace.FoundIn(ctx, source.String())
	return key, err
}

// Used records that a key was used. Callers must not call it for a refused request.
func (r *Runtime) Used(k *keys.Key) { r.usage.note(k.ID, clock.Now()) }

// Revoke makes every later lookup ask the store for the key, in this process and in all
// processes that share the store or follow this process. It also notifies the key's
// streams. Revoke takes at most LeaseTime.
func (r *Runtime) Revoke(d keys.Digest) { r.RevokeEach([]keys.Digest{d}) }

// RevokeEach is like Revoke for several keys, and takes no longer than for one.
func (r *Runtime) RevokeEach(digests []keys.Digest) {
	for _, d := range digests {
		r.cache.Revoke(d)
		r.streams.notify(d)
	}
	if r.follower != nil {
		r.follower.confirm()
		return
	}
	for _, d := range digests {
		r.ownLog.Append(d)
	}
	// The call needs no deadline, because it returns when the last lease has expired.
	_ = r.ownLog.Confirm(context.Background(), "")
}

// Revocations returns the log of key changes. Users of the log must hold a reference to
// the runtime; see Acquire.
func (r *Runtime) Revocations() Revocations { return r.log }

// Watch registers a stream of the key, so that the stream is notified of each
// change of the key. The caller must call End on the result when the stream has
// ended.
func (r *Runtime) Watch(d keys.Digest) *Stream { return r.streams.watch(d) }

// RevocationLag returns the time since this process last read the key changes of
// other processes. It returns 0 if no other process changes keys.
func (r *Runtime) RevocationLag() time.Duration {
	if r.follower == nil {
		return 0
	}
	return r.follower.lag()
}

// StoreUp reports whether the store can write.
func (r *Runtime) StoreUp() bool { return r.store.Healthy() == nil }

// ExpiringKeys returns, for each duration, the number of usable keys that expire within
// that duration. The numbers are at most half a minute old. It returns false if the
// last count failed, if the keys are managed elsewhere, or if the runtime is closing.
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

// EndStreams ends all open streams and all streams opened later.
func (r *Runtime) EndStreams() { r.streams.end() }

// Destruct ends all streams, waits at most half a minute for the calls in flight, and
// closes the runtime. Streams must be ended because they would not end by themselves.
// Call Destruct once.
func (r *Runtime) Destruct() error {
	r.EndStreams()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := r.refs.drain(ctx); err != nil {
		r.logger.Warn("closing the store under calls that are still in flight", "waited", drainTime)
	}
	if r.follower != nil {
		r.follower.stop()
	}
	r.unwatch()
	r.alerts.close()
	r.verifier.close()
	if r.service != nil {
		r.service.Close()
	}
	r.roller.close()
	r.sweeper.end()
	r.calls.Close()
	r.survey.close()
	r.debts.close()
	r.usage.close()
	r.cache.Close()
	if err := r.store.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}
