package remotestore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/platform"
	"github.com/fareboxhq/farebox/internal/remotestore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"

	"github.com/fareboxhq/farebox/internal/clock"
)

// headquarters is a complete platform: a store, the engine on it, and an HTTP server
// for the API.
type headquarters struct {
	t       *testing.T
	dir     string
	store   *sqlitestore.Store
	engine  *engine.Runtime
	server  *httptest.Server
	secret  string // the secret of the key that all gateways use
	acme    string
	wrap    atomic.Pointer[func(http.Handler) http.Handler]
	handler atomic.Pointer[http.Handler] // the handler of the running platform; nil while the platform is stopped
}

var actor = admin.Actor{Name: "test"}

func options(dir, name string, open func(context.Context) (engine.Store, error)) engine.Options {
	return engine.Options{
		Open: open, KeyFile: filepath.Join(dir, name+"-receipt-key"), SealFile: filepath.Join(dir, name+"-seal-key"),
		DebtDir: filepath.Join(dir, name+"-refunds"),
		Cache:   keycache.Options{}, Metrics: telemetry.New(new(telemetry.Process)), Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, o engine.Options) *engine.Runtime {
	t.Helper()
	r, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newHeadquarters(t *testing.T) *headquarters {
	t.Helper()
	h := &headquarters{t: t, dir: t.TempDir()}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		handler := h.handler.Load()
		if handler == nil { // the platform is stopped
			panic(http.ErrAbortHandler)
		}
		if wrap := h.wrap.Load(); wrap != nil {
			(*wrap)(*handler).ServeHTTP(w, q)
			return
		}
		(*handler).ServeHTTP(w, q)
	}))
	t.Cleanup(func() { h.stop() })
	h.start()
	var err error
	if _, h.secret, err = h.engine.Service().CreateKey(t.Context(), actor, admin.NewKey{Account: "operator", Kind: "gateway", Servers: []string{"weather"}}); err != nil {
		t.Fatal(err)
	}
	h.server.Start()
	t.Cleanup(func() { h.server.CloseClientConnections(); h.server.Close() })
	return h
}

func (h *headquarters) file() sqlitestore.Options {
	return sqlitestore.Options{Path: filepath.Join(h.dir, "f.db")}
}

// start starts the platform.
func (h *headquarters) start() {
	h.t.Helper()
	var err error
	h.engine, err = engine.Open(h.t.Context(), options(h.dir, "platform", func(ctx context.Context) (engine.Store, error) {
		var err error
		h.store, err = sqlitestore.Open(ctx, h.file())
		return h.store, err
	}))
	if err != nil {
		h.t.Fatal(err)
	}
	ensure := func(name string) string {
		a, err := h.engine.Service().EnsureAccount(h.t.Context(), actor, name)
		if err != nil {
			h.t.Fatal(err)
		}
		return a.ID
	}
	h.acme = ensure("acme")
	r := h.engine
	p, err := platform.New(platform.Options{
		Servers: map[string]platform.Server{"weather": {Earner: ledger.Earner{Provider: h.acme, Fee: 100_000, FeeTo: ensure("operator")}}},
		Secrets: &keys.DefaultFormat, Currency: "USD", Version: "test",
		Keys: r, Ledger: h.store, Store: h.store, Admin: r.Service(), Changes: r.Revocations(), Signer: r.Signer(), Sealer: r.Sealer(),
		Watch: func(d keys.Digest) (<-chan struct{}, <-chan struct{}, func()) {
			s := r.Watch(d)
			return s.Changed, s.Closing, s.End
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.Acquire() != nil {
			panic(http.ErrAbortHandler)
		}
		defer r.Release()
		p.Serve(w, q, netip.Addr{}, nil)
	}))
	h.handler.Store(&handler)
}

// stop stops the platform if it is running.
func (h *headquarters) stop() {
	h.t.Helper()
	if h.handler.Swap(nil) == nil {
		return
	}
	if err := h.engine.Destruct(); err != nil {
		h.t.Error(err)
	}
}

func (h *headquarters) remote() *remotestore.Store {
	h.t.Helper()
	s, err := remotestore.New(remotestore.Options{URL: h.server.URL, Key: h.secret})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// newAgent makes an agent key for the account "alice". It creates the account if
// necessary, and tops the account up.
func (h *headquarters) newAgent(credits ledger.Amount) keys.Key {
	h.t.Helper()
	if _, err := h.engine.Service().EnsureAccount(h.t.Context(), actor, "alice"); err != nil {
		h.t.Fatal(err)
	}
	if credits > 0 {
		if _, err := h.engine.Service().Credit(h.t.Context(), actor, admin.Credit{Account: "alice", Amount: credits, Reason: "test"}); err != nil {
			h.t.Fatal(err)
		}
	}
	k, _, err := h.engine.Service().CreateKey(h.t.Context(), actor, admin.NewKey{Account: "alice"})
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

// freezing is a gateway's store that blocks renewals while it is frozen.
type freezing struct {
	*remotestore.Store
	frozen atomic.Pointer[chan struct{}]
}

func (f *freezing) Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error) {
	if wake := f.frozen.Load(); wake != nil {
		<-*wake
	}
	return f.Store.Follow(ctx, node, seen, lease)
}

// gateways starts n gateways of the platform, and returns them with their stores.
func (h *headquarters) gateways(n int) ([]*engine.Runtime, []*freezing) {
	h.t.Helper()
	nodes, stores := make([]*engine.Runtime, n), make([]*freezing, n)
	for i := range nodes {
		stores[i] = &freezing{Store: h.remote()}
		nodes[i] = open(h.t, options(h.dir, fmt.Sprint("gateway-", i), func(context.Context) (engine.Store, error) { return stores[i], nil }))
		if nodes[i].Service() != nil {
			h.t.Error("a gateway without a store has operations")
		}
	}
	return nodes, stores
}

// TestDeletedIsDeadAtEveryGateway checks promise 6 of docs/promises.md: after the
// deletion of a key at the platform has returned, every gateway refuses the key. The
// test looks keys up continuously, mostly from the caches.
func TestDeletedIsDeadAtEveryGateway(t *testing.T) {
	h := newHeadquarters(t)
	nodes, _ := h.gateways(2)
	nodes = append(nodes, h.engine)
	var deleted sync.Map // the digests of the deleted keys
	var current atomic.Pointer[keys.Key]
	first := h.newAgent(0)
	current.Store(&first)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var lookups, stale atomic.Int64
	var callers sync.WaitGroup
	for i := range 3 {
		callers.Go(func() {
			for ctx.Err() == nil {
				k := current.Load()
				_, dead := deleted.Load(k.Digest)
				found, err := nodes[i].Lookup(t.Context(), netip.Addr{}, k.Digest)
				if err != nil {
					t.Errorf("lookup: %v", err)
					return
				}
				lookups.Add(1)
				if dead && found.Check(clock.Now(), keys.Use{}) == nil {
					stale.Add(1)
				}
			}
		})
	}
	var longest time.Duration
	for range 20 {
		began := clock.Now()
		if _, err := h.engine.Service().DeleteKey(t.Context(), actor, current.Load().ID); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, clock.Since(began)) // includes the time that the lookups keep the processors busy
		deleted.Store(current.Load().Digest, struct{}{})
		for until := lookups.Load() + 300; lookups.Load() < until; {
			if t.Failed() {
				t.FailNow()
			}
		}
		next := h.newAgent(0)
		current.Store(&next)
	}
	stop()
	callers.Wait()
	t.Logf("%d lookups, %d stale, longest delete %s", lookups.Load(), stale.Load(), longest)
	if stale.Load() > 0 {
		t.Errorf("%d lookups accepted a key after its delete had returned", stale.Load())
	}
}

// TestFrozenGatewayHoldsNothingUp checks that a frozen gateway delays a deletion by
// at most its lease. After waking, the gateway trusts no cached key until it has
// read the changes that it missed.
func TestFrozenGatewayHoldsNothingUp(t *testing.T) {
	h := newHeadquarters(t)
	nodes, stores := h.gateways(2)
	k := h.newAgent(0)
	lookup := func(r *engine.Runtime) error {
		found, err := r.Lookup(t.Context(), netip.Addr{}, k.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return found.Check(clock.Now(), keys.Use{})
	}
	for _, r := range nodes {
		if err := lookup(r); err != nil {
			t.Fatal(err)
		}
	}
	other := h.newAgent(0)
	began := clock.Now()
	if _, err := h.engine.Service().DeleteKey(t.Context(), actor, other.ID); err != nil {
		t.Fatal(err)
	}
	took := clock.Since(began)
	if t.Logf("a delete took %s", took); took >= engine.LeaseTime {
		t.Errorf("a delete took %s: it was not told, but waited out", took)
	}
	wake := make(chan struct{})
	stores[1].frozen.Store(&wake)
	began = clock.Now()
	if _, err := h.engine.Service().DeleteKey(t.Context(), actor, k.ID); err != nil {
		t.Fatal(err)
	}
	if took := clock.Since(began); took > engine.LeaseTime+time.Second {
		t.Errorf("the delete took %s", took)
	}
	for i, r := range nodes {
		if err := lookup(r); !errors.Is(err, keys.ErrDeleted) {
			t.Errorf("gateway %d: %v", i, err)
		}
	}
	stores[1].frozen.Store(nil)
	close(wake)
}

// TestDeletedOfflineIsDeadAtEveryGateway checks promise 6 of docs/promises.md for a key
// that a command deletes while the platform is stopped. A gateway that followed the
// platform just before refuses the key, both before and after the platform starts
// again.
func TestDeletedOfflineIsDeadAtEveryGateway(t *testing.T) {
	h := newHeadquarters(t)
	nodes, _ := h.gateways(1)
	k, alive := h.newAgent(0), h.newAgent(0)
	accepts := func(k *keys.Key) error {
		found, err := nodes[0].Lookup(t.Context(), netip.Addr{}, k.Digest)
		if err == nil {
			err = found.Check(clock.Now(), keys.Use{})
		}
		return err
	}
	for _, k := range []*keys.Key{&k, &alive} {
		if err := accepts(k); err != nil {
			t.Fatal(err)
		}
	}
	h.stop()
	store, err := sqlitestore.Open(t.Context(), h.file())
	if err != nil {
		t.Fatal(err)
	}
	service := admin.New(store, engine.Offline(t.Context(), store), func() *admin.Settings { return new(admin.Settings) }, clock.Now)
	if _, err := service.DeleteKey(t.Context(), actor, k.ID); err != nil {
		t.Fatal(err)
	}
	if err := accepts(&k); err == nil {
		t.Error("the key is accepted after its deletion has returned")
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	if err := until(t.Context(), func() error { return accepts(&alive) }); err != nil {
		t.Errorf("a key that was not deleted: %v", err)
	}
	if err := accepts(&k); !errors.Is(err, keys.ErrDeleted) {
		t.Errorf("under the platform that was started then: %v", err)
	}
}

// TestStartEndsOlderBeliefs checks that gateways stop trusting their cached keys when
// the platform starts again, no matter how soon the platform starts, and
// independently of any clock.
func TestStartEndsOlderBeliefs(t *testing.T) {
	h := newHeadquarters(t)
	nodes, _ := h.gateways(1)
	k, other := h.newAgent(0), h.newAgent(0)
	lookup := func(k *keys.Key) (*keys.Key, error) { return nodes[0].Lookup(t.Context(), netip.Addr{}, k.Digest) }
	if _, err := lookup(&k); err != nil {
		t.Fatal(err)
	}
	h.stop()
	store, err := sqlitestore.Open(t.Context(), h.file())
	if err != nil {
		t.Fatal(err)
	}
	service := admin.New(store, nil, func() *admin.Settings { return new(admin.Settings) }, clock.Now) // this service does not wait for gateways
	if _, err := service.DeleteKey(t.Context(), actor, k.ID); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	if _, err := h.engine.Service().DisableKey(t.Context(), actor, other.ID); err != nil { // this operation waits for each gateway
		t.Fatal(err)
	}
	err = until(t.Context(), func() error {
		found, err := lookup(&k)
		if err == nil {
			err = found.Check(clock.Now(), keys.Use{})
		}
		return err
	})
	if !errors.Is(err, keys.ErrDeleted) {
		t.Errorf("a key that was deleted before the start: %v", err)
	}
}

// faults breaks requests at a regular interval: if every is 3, each third request. The
// faults take turns: the request fails before it is served, the request fails after it
// was served, or the response is cut short.
type faults struct {
	every  int64
	asked  atomic.Int64
	broken atomic.Int64
}

func (f *faults) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n := f.asked.Add(1)
		if n%f.every != 0 || q.Header.Get("Accept") == "text/event-stream" {
			next.ServeHTTP(w, q)
			return
		}
		f.broken.Add(1)
		switch (n / f.every) % 5 {
		case 0: // the request fails before it is served, so it has no effect
			panic(http.ErrAbortHandler)
		case 1: // the request is served, but the response is lost
			next.ServeHTTP(httptest.NewRecorder(), q)
			panic(http.ErrAbortHandler)
		case 2:
			next.ServeHTTP(httptest.NewRecorder(), q)
			w.WriteHeader(http.StatusBadGateway)
		case 3: // the response is cut short
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, q)
			w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
			w.Header().Set("Content-Length", fmt.Sprint(answer.Body.Len()+1))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// until repeats a call as long as its error is ledger.ErrUnavailable, that is, until
// the outcome of the call is known.
func until(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, ledger.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// TestNoDoubleEffectsAcrossABrokenNetwork checks promises 3, 4 and 5 (docs/promises.md)
// on a network that loses requests and responses: each capture and refund happens once,
// and released calls cost nothing. The orders name no provider and no fee. Each charge
// has the provider and the fee that the platform determines.
func TestNoDoubleEffectsAcrossABrokenNetwork(t *testing.T) {
	const callers, calls, price = 16, 12, ledger.Amount(10_000)
	h := newHeadquarters(t)
	k := h.newAgent(callers * calls * price)
	s := h.remote()
	defer s.Close()
	f := &faults{every: 3}
	wrap := f.wrap
	h.wrap.Store(&wrap)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	o := ledger.Order{Account: k.Account, Key: k.ID, Lineage: k.Lineage, Server: "weather", Tool: "get_forecast", Amount: price}
	var terms ledger.Terms
	if err := until(ctx, func() error {
		shown, err := s.KeyByDigest(ctx, k.Digest)
		if err == nil {
			terms.Proof = shown.ProofText()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var captured, refunded, released atomic.Int64
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for call := range calls {
				id := ids.New("chg_")
				err := until(ctx, func() error { _, err := s.Reserve(ctx, id, o, terms); return err })
				switch {
				case err != nil:
				case (caller+call)%3 == 0:
					if err = until(ctx, func() error { return s.Release(ctx, id) }); errors.Is(err, ledger.ErrNotFound) {
						err = nil
					}
					released.Add(1)
				default:
					var c ledger.Charge
					err = until(ctx, func() (err error) { c, _, err = s.Capture(ctx, id, nil); return err })
					if captured.Add(1); err == nil && (c.Provider != h.acme || c.Fee != price/10) {
						t.Errorf("the charge is %+v", c)
					}
					if err == nil && (caller+call)%3 == 1 {
						refund := ledger.Transaction{ID: ids.New("txn_"), Kind: ledger.KindRefund, Charge: id, Reason: "the result was not delivered"}
						err = until(ctx, func() error { _, _, err := s.PostTransaction(ctx, refund, ledger.Audit{}); return err })
						refunded.Add(1)
					}
				}
				if err != nil {
					t.Errorf("call %d of caller %d: %v", call, caller, err)
				}
			}
		})
	}
	group.Wait()
	h.wrap.Store(nil)
	v, err := h.store.Verify(t.Context(), nil)
	if err != nil || len(v.Differences) > 0 {
		t.Fatalf("%v, %v", v.Differences, err)
	}
	charges, _, err := h.store.Charges(t.Context(), ledger.ChargeFilter{Page: ledger.Page{Limit: 500}})
	if err != nil || int64(len(charges)) != captured.Load() {
		t.Errorf("%d charges, want %d; %v", len(charges), captured.Load(), err)
	}
	a, err := h.store.Account(t.Context(), k.Account)
	want := callers*calls*price - price*ledger.Amount(captured.Load()-refunded.Load())
	if err != nil || a.Live.Posted != want || a.Live.Reserved != 0 {
		t.Errorf("the balance is %+v, want %s; %v", a.Live, want, err)
	}
	if s.OpenReservations() != 0 || f.broken.Load() == 0 {
		t.Errorf("%d open, %d faults", s.OpenReservations(), f.broken.Load())
	}
	t.Logf("%d captured, %d of them refunded, %d released, %d of %d requests broken", captured.Load(), refunded.Load(), released.Load(), f.broken.Load(), f.asked.Load())
}

// TestConnectionsArePooled checks that connections are kept and shared: their number
// grows with the concurrent callers, not with the requests. Over TLS a few
// connections are enough, because HTTP/2 multiplexes requests.
func TestConnectionsArePooled(t *testing.T) {
	h := newHeadquarters(t)
	k := h.newAgent(0)
	for _, secure := range []bool{false, true} {
		var opened, two atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.ProtoMajor == 2 {
				two.Add(1)
			}
			h.server.Config.Handler.ServeHTTP(w, q)
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened.Add(1)
			}
		}
		server.EnableHTTP2 = secure
		if secure {
			server.StartTLS()
		} else {
			server.Start()
		}
		var trusted *x509.CertPool
		if secure {
			trusted = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		}
		s, err := remotestore.NewTrusting(remotestore.Options{URL: server.URL, Key: h.secret}, trusted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.KeyByDigest(t.Context(), k.Digest); err != nil { // the first request of each client negotiates the protocol
			t.Fatal(err)
		}
		var group sync.WaitGroup
		const callers, each = 16, 50
		for range callers {
			group.Go(func() {
				for range each {
					if _, err := s.KeyByDigest(t.Context(), k.Digest); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		if n := opened.Load(); n > 4*callers || secure && (two.Load() < callers*each || n > 4) {
			t.Errorf("%d connections for %d callers, TLS %v, %d requests of HTTP/2", n, callers, secure, two.Load())
		}
		t.Logf("TLS %v: %d connections", secure, opened.Load())
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		server.CloseClientConnections()
		server.Close()
	}
}

// TestCertificateIsChecked checks that a server without a trusted certificate is not
// accepted as the platform.
func TestCertificateIsChecked(t *testing.T) {
	h := newHeadquarters(t)
	server := httptest.NewTLSServer(h.server.Config.Handler)
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s, err := remotestore.New(remotestore.Options{URL: server.URL, Key: h.secret})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.KeyByDigest(t.Context(), keys.Digest{1})
	var untrusted *tls.CertificateVerificationError
	if !errors.Is(err, ledger.ErrUnavailable) || !errors.As(err, &untrusted) {
		t.Errorf("%v", err)
	}
}
