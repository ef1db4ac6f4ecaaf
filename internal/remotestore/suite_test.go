//go:build unix

package remotestore

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgstore"
	"github.com/fareboxhq/farebox/internal/pgtest"
	"github.com/fareboxhq/farebox/internal/platform"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// The suite's orders name the paying and the earning account, and its terms have the
// caps of the key. A platform takes the accounts and the caps from its own keys and
// config instead. So each request of these tests carries the suite's values in a
// header, and the platform's store and config return these values for the request.

// said has the suite's values that a request carries in a header.
type said struct {
	Order ledger.Order
	Key   ledger.Caps
}

type saidKey struct{}

const saidHeader = "X-Suite"

// saying is a transport that adds the suite's values to each request.
type saying struct{ http.RoundTripper }

func (s saying) RoundTrip(q *http.Request) (*http.Response, error) {
	if what, ok := q.Context().Value(saidKey{}).(*said); ok {
		text, err := json.Marshal(what)
		if err != nil {
			return nil, err
		}
		q = q.Clone(q.Context())
		q.Header.Set(saidHeader, base64.StdEncoding.EncodeToString(text))
	}
	return s.RoundTripper.RoundTrip(q)
}

// heard decodes the header that carries a value of type said, and returns the request
// with this value in its context.
func heard(q *http.Request) (*http.Request, error) {
	header := q.Header.Get(saidHeader)
	if header == "" {
		return q, nil
	}
	text, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, err
	}
	what := new(said)
	if err := json.Unmarshal(text, what); err != nil {
		return nil, err
	}
	return q.WithContext(context.WithValue(q.Context(), saidKey{}, what)), nil
}

// own is the interface of a platform's own store.
type own interface {
	storetest.Store
	admin.Store
	platform.Ledger
}

// books is the platform's store. It takes keys and providers from the values of said in
// the request's context.
type books struct{ own }

func (b books) Key(ctx context.Context, id string) (keys.Key, error) {
	what, ok := ctx.Value(saidKey{}).(*said)
	if !ok || what.Order.Key != id {
		return keys.Key{}, errors.New("no order has the key that is asked for")
	}
	o, environment := &what.Order, keys.Live
	if o.Test {
		environment = keys.Test
	}
	return keys.Key{
		ID: id, Account: o.Account, Lineage: o.Lineage, Kind: keys.Agent, Environment: environment,
		Limits: &keys.Limits{Call: int64(what.Key.Call), Day: int64(what.Key.Day), Month: int64(what.Key.Month)},
	}, nil
}

func earner(ctx context.Context, o ledger.Order) ledger.Order {
	what := ctx.Value(saidKey{}).(*said)
	o.Provider, o.Fee, o.FeeTo = what.Order.Provider, what.Order.Fee, what.Order.FeeTo
	return o
}

func (b books) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	return b.own.Reserve(ctx, id, earner(ctx, o), terms)
}

func (b books) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	return b.own.Charge(ctx, id, earner(ctx, o), terms, answer)
}

// oneKey is a lookup of keys that finds only the gateway's key.
type oneKey struct{ key keys.Key }

func (k oneKey) Lookup(_ context.Context, _ netip.Addr, d keys.Digest) (*keys.Key, error) {
	if d != k.key.Digest {
		return nil, keys.ErrUnknown
	}
	return &k.key, nil
}

// The type named still is a log of key changes to which no change is ever added.
type still struct{}

func (still) Follow(context.Context, string, int64, time.Duration) (keys.Revocations, error) {
	return keys.Revocations{Position: 1}, nil
}
func (still) Leave(context.Context, string) error { return nil }
func (still) Changed() <-chan struct{}            { return nil }

// The type named both is the store that the suite tests. It sends a gateway's
// operations to the platform over HTTP, and an operator's operations directly to the
// platform's store.
type both struct {
	own
	remote *Store
	now    func() time.Time
}

// proved returns a proof for the key. The tag in the proof is accepted only by
// credulous.
func proved(key string, now time.Time) string {
	return key + "." + base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint64(nil, uint64(now.Unix())), "tag"...))
}

// credulous is a sealer that accepts every tag.
type credulous struct{}

func (credulous) Tag([]byte, ...string) []byte        { return []byte("tag") }
func (credulous) Opens(_, _ []byte, _ ...string) bool { return true }

// byWhomever returns the charge without its settler, because the suite expects no
// settler.
func byWhomever(c ledger.Charge) ledger.Charge {
	c.Settler = ""
	return c
}

func (b *both) ChargeByID(ctx context.Context, id string) (ledger.Charge, error) {
	c, err := b.own.ChargeByID(ctx, id)
	return byWhomever(c), err
}

func (b *both) Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error) {
	list, next, err := b.own.Charges(ctx, f)
	for i := range list {
		list[i] = byWhomever(list[i])
	}
	return list, next, err
}

func (b *both) Close() error { return errors.Join(b.remote.Close(), b.own.Close()) }

func (b *both) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	k, err := b.remote.KeyByDigest(ctx, d)
	if err == nil {
		shown := *k
		shown.Proof, k = nil, &shown // the proof is not part of the stored key
	}
	return k, err
}

func (b *both) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	if err := o.Check(); err != nil { // check the order here, because a platform's config cannot produce an invalid one
		return ledger.Reservation{}, err
	}
	terms.Proof = proved(o.Key, b.now())
	return b.remote.Reserve(context.WithValue(ctx, saidKey{}, &said{o, terms.Key}), id, o, terms)
}

func (b *both) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if err := o.Check(); err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	terms.Proof = proved(o.Key, b.now())
	return b.remote.Charge(context.WithValue(ctx, saidKey{}, &said{o, terms.Key}), id, o, terms, answer)
}

func (b *both) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	return b.remote.Capture(ctx, id, answer)
}
func (b *both) Renew(ctx context.Context, id string) error   { return b.remote.Renew(ctx, id) }
func (b *both) Release(ctx context.Context, id string) error { return b.remote.Release(ctx, id) }
func (b *both) Void(ctx context.Context, id string) error    { return b.remote.Release(ctx, id) }
func (b *both) Bind(ctx context.Context, x ledger.Binding) error {
	return b.remote.Bind(ctx, x)
}
func (b *both) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	return b.remote.Binding(ctx, server, m)
}

// unsaid is the reason of a refund for which the suite gives no reason. A platform
// requires a reason.
const unsaid = "the suite does not say why"

func (b *both) PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	c, err := b.own.ChargeByID(ctx, t.Charge)
	late := err == nil && b.now().Sub(c.At) >= ledger.SettleTime // only operators may refund that late
	if t.Kind != ledger.KindRefund || t.Charge == "" {
		return b.own.PostTransaction(ctx, t, a)
	}
	asked, post := t, b.remote.PostTransaction
	if asked.Reason == "" {
		asked.Reason = unsaid
	}
	if late {
		post = b.own.PostTransaction
	}
	got, balance, err := post(ctx, asked, a)
	if errors.Is(err, ledger.ErrInvalid) { // for an amount above the amount that is left to refund, a platform returns ErrInvalid, but the suite expects ErrInsufficient
		err = errors.Join(ledger.ErrInsufficient, err)
	}
	if err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	c, err = b.own.ChargeByID(ctx, t.Charge) // the platform does not send the accounts to a gateway
	got.Reason, got.Debtor, got.Creditor, got.Test = t.Reason, c.Provider, c.Account, c.Test
	return got, balance, err
}

// suiteBegins is the time at which the suite's clock starts, two days before the
// end of a month.
var suiteBegins = time.Date(2030, 1, 30, 9, 0, 0, 0, time.UTC)

// fakeClock is a wall clock that only moves when a test moves it.
type fakeClock struct{ ahead atomic.Int64 }

func (c *fakeClock) now() time.Time { return suiteBegins.Add(time.Duration(c.ahead.Load())) }

// site is a platform on a real store, served over HTTP.
type site struct {
	t        *testing.T
	open     func() (own, error)
	now      func() time.Time
	secret   string
	platform atomic.Pointer[platform.Platform]
	books    *books // the platform's view of the store
	server   *httptest.Server
}

// reopen opens the store, for the first time or after a crash, and serves a platform
// on it. It returns the store of a gateway.
func (s *site) reopen() storetest.Store {
	s.t.Helper()
	store, err := s.open()
	if err != nil {
		s.t.Fatal(err)
	}
	p := s.platform.Load()
	if p == nil {
		s.books = &books{store}
		p = s.found(store)
		s.platform.Store(p)
	}
	// After a crash, put the new store under the same platform, because building a
	// platform takes long. No request is under way here.
	s.books.own = store
	remote, err := newStore(Options{URL: s.server.URL, Key: s.secret, Timeout: 30 * time.Second, SettleTimeout: 30 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	remote.client.Transport = saying{remote.transport}
	remote.start()
	b := &both{store, remote, s.now}
	s.t.Cleanup(func() { _ = b.Close() }) // ignore the error, because a test that checks it calls Close itself
	return b
}

// found creates the site's platform, which uses the given store.
func (s *site) found(store own) *platform.Platform {
	s.t.Helper()
	digest, err := keys.DefaultFormat.Parse(s.secret)
	if err != nil {
		s.t.Fatal(err)
	}
	servers := map[string]platform.Server{}
	for _, name := range []string{"weather", "maps", "bc", "c", ""} {
		servers[name] = platform.Server{}
	}
	all := slices.Collect(maps.Keys(servers))
	p, err := platform.New(platform.Options{
		Servers: servers, Secrets: &keys.DefaultFormat, Currency: "USD", Version: "test",
		Keys:   oneKey{keys.Key{ID: "key_gateway", Account: "acct_operator", Lineage: "key_gateway", Kind: keys.Gateway, Environment: keys.Live, Digest: digest, Servers: all}},
		Ledger: s.books, Store: s.books, Changes: still{}, Signer: ledger.NewSigner([ed25519.SeedSize]byte{1}), Sealer: credulous{},
		Admin:  admin.New(store, nil, func() *admin.Settings { return new(admin.Settings) }, s.now),
		Watch:  func(keys.Digest) (<-chan struct{}, <-chan struct{}, func()) { return nil, nil, func() {} },
		Logger: slog.New(slog.DiscardHandler), Now: s.now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *site) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	q, err := heard(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.platform.Load().Serve(w, q, netip.Addr{}, nil)
}

// newSite opens a store, serves a platform on it, and returns the site and the
// store of a gateway.
func newSite(t *testing.T, now func() time.Time, open func() (own, error)) (*site, storetest.Store) {
	t.Helper()
	s := &site{t: t, secret: keys.Mint(keys.Gateway, keys.Live), now: now, open: open}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s, s.reopen()
}

// warnings collects the caps about which the store has warned.
type warnings struct {
	mu   sync.Mutex
	list []ledger.Cap
}

func (w *warnings) note(near ledger.Cap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, near)
}

func (w *warnings) all() []ledger.Cap {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// overSQLite returns the suite's harness with a platform that uses SQLite.
func overSQLite(t *testing.T) storetest.Harness {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "farebox-test-") // in memory, because the tests do not depend on the disk
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c, near, reports := new(fakeClock), new(warnings), new(storetest.Reports)
	path := filepath.Join(dir, "farebox.db")
	s, current := newSite(t, c.now, func() (own, error) {
		return sqlitestore.Open(context.Background(), sqlitestore.Options{Path: path, Now: c.now, NearCap: near.note, Audited: reports.Add})
	})
	return storetest.Harness{
		Store: current, Now: c.now, Advance: func(d time.Duration) { c.ahead.Add(int64(d)) }, Backwards: true, Forgets: true, Derives: true, Tombstones: true,
		Near: near.all, Reports: reports,
		Crash: func() storetest.Store { // the platform and the gateway crash, and both forget reservations
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
			current = s.reopen()
			return current
		},
		BreakAudit: func() func() {
			alter(t, path, `CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'broken'); END`)
			return func() { alter(t, path, `DROP TRIGGER broken`) }
		},
	}
}

// cluster is the database server of the tests.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

// overPostgres returns the suite's harness with a platform that uses PostgreSQL.
func overPostgres(t *testing.T) storetest.Harness {
	t.Helper()
	c, near, reports := new(fakeClock), new(warnings), new(storetest.Reports)
	dsn := cluster.Database(t, func(ctx context.Context, dsn string) error {
		_, _, err := pgstore.Migrate(ctx, pgstore.Options{DSN: dsn}, nil)
		return err
	})
	// Replace the database's clock, because it must stand still unless the suite
	// moves it.
	query(t, dsn, `CREATE OR REPLACE FUNCTION moved_clock(shift bigint) RETURNS timestamptz LANGUAGE sql VOLATILE AS
		'SELECT timestamptz ''epoch'' + shift * interval ''1 microsecond'''`)
	s, current := newSite(t, c.now, func() (own, error) {
		return pgstore.Open(context.Background(), pgstore.Options{
			DSN: dsn, NearCap: near.note, Audited: reports.Add, Shift: func() time.Duration { return c.now().Sub(time.Unix(0, 0)) }, Remember: 100 * 365 * 24 * time.Hour,
		})
	})
	return storetest.Harness{
		Store: current, Now: c.now, Advance: func(d time.Duration) { c.ahead.Add(int64(d)) }, Derives: true, Tombstones: true, Near: near.all, Reports: reports,
		Crash: func() storetest.Store { // the platform's process and the gateway crash
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
			current = s.reopen()
			return current
		},
		BreakAudit: func() func() {
			query(t, dsn, `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END';
				CREATE TRIGGER broken BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION broken()`)
			return func() { query(t, dsn, `DROP TRIGGER broken ON audit; DROP FUNCTION broken`) }
		},
	}
}

// query runs statements on the platform's database, bypassing the store.
func query(t *testing.T, dsn, text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// alter runs a statement on the store's file, bypassing the store.
func alter(t *testing.T, path, query string) {
	t.Helper()
	file := url.URL{Scheme: "file", Path: path, RawQuery: "_busy_timeout=5000"}
	db, err := sql.Open("sqlite", file.String())
	if err == nil {
		_, err = db.Exec(query)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSuite runs the suite that all stores must pass. The gateway's operations go over
// HTTP to a platform. In one run the platform uses SQLite, in the other PostgreSQL.
func TestSuite(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { storetest.Run(t, overSQLite) })
	t.Run("PostgreSQL", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the platform's store is tested beside its own code")
		}
		storetest.Run(t, overPostgres)
	})
}
