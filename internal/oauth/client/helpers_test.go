package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
)

// somebody is the address that asks in the tests.
var somebody = netip.MustParseAddr("198.51.100.7")

// web is a local HTTPS server that stands for every host of the web. Its certificate is
// for the names of the hosts, and the real fetcher verifies it.
type web struct {
	server *httptest.Server
	roots  *x509.CertPool

	mu       sync.Mutex
	pages    map[string]http.HandlerFunc // by host and path
	requests atomic.Int64
}

func newWeb(t *testing.T, hosts ...string) *web {
	t.Helper()
	w := &web{pages: make(map[string]http.HandlerFunc)}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		w.mu.Lock()
		page := w.pages[r.Host+r.URL.Path]
		w.mu.Unlock()
		if page == nil {
			http.NotFound(rw, r)
			return
		}
		page(rw, r)
	}))
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	certificate := makeCertificate(t, hosts)
	w.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.roots = x509.NewCertPool()
	w.roots.AddCert(certificate.Leaf)
	return w
}

// makeCertificate returns a certificate for the names. TLS verifies it by the clock of the
// operating system.
func makeCertificate(t *testing.T, names []string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: clock.Deadline(-time.Hour), NotAfter: clock.Deadline(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serve serves a page at a host and path.
func (w *web) serve(place string, page http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[place] = page
}

// json serves JSON at a host and path, with a header Cache-Control unless it is "".
func (w *web) json(place, body, caching string) {
	w.serve(place, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		if caching != "" {
			rw.Header().Set("Cache-Control", caching)
		}
		_, _ = rw.Write([]byte(body))
	})
}

// fetcher returns the real fetcher, for which every host is the local server.
func (w *web) fetcher() *fetch.Client {
	return fetch.New(fetch.Options{RootCAs: w.roots, Connect: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, w.server.Listener.Addr().String())
	}})
}

// newCancel returns a context and its cancel function, which the test calls.
func newCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

// testClock is a clock that tests move.
type testClock struct{ at atomic.Pointer[time.Time] }

func newTestClock() *testClock {
	c := new(testClock)
	now := clock.Now().Truncate(time.Microsecond)
	c.at.Store(&now)
	return c
}

func (c *testClock) now() time.Time { return *c.at.Load() }

func (c *testClock) advance(d time.Duration) {
	now := c.now().Add(d)
	c.at.Store(&now)
}

// newRegistry returns a registry with a store in memory and a clock that the test moves.
func newRegistry(t *testing.T, w *web, o Options) (*Registry, *memory, *testClock) {
	t.Helper()
	store, c := newMemory(), newTestClock()
	if w == nil {
		w = newWeb(t)
	}
	if o.Fetch == nil {
		o.Fetch = w.fetcher()
	}
	if o.Store == nil {
		o.Store = store
	}
	o.Now = c.now
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r, store, c
}

// memory is a Store in memory, which passes the suite of all stores.
type memory struct {
	mu            sync.Mutex
	down          error // returned by every method
	registrations map[string]Registration
	documents     map[string]Document
	used          map[Digest]time.Time
}

func newMemory() *memory {
	return &memory{registrations: make(map[string]Registration), documents: make(map[string]Document), used: make(map[Digest]time.Time)}
}

func (m *memory) lock() func() {
	m.mu.Lock()
	return m.mu.Unlock
}

func (m *memory) Registration(_ context.Context, id string) (Registration, error) {
	defer m.lock()()
	r, ok := m.registrations[id]
	if !ok && m.down == nil {
		return r, ledger.ErrNotFound
	}
	return r, m.down
}

func (m *memory) InsertRegistration(_ context.Context, r *Registration) error {
	defer m.lock()()
	m.registrations[r.ID] = *r
	return m.down
}

func (m *memory) TouchRegistration(_ context.Context, id string, used time.Time) error {
	defer m.lock()()
	if r, ok := m.registrations[id]; ok {
		r.UsedAt = used
		m.registrations[id] = r
	}
	return m.down
}

func (m *memory) CountUnfinished(_ context.Context, source string) (bySource, total int64, err error) {
	defer m.lock()()
	for _, r := range m.registrations {
		if r.UsedAt.IsZero() {
			total++
			if r.Source == source {
				bySource++
			}
		}
	}
	return bySource, total, m.down
}

func (m *memory) DeleteRegistrations(_ context.Context, unfinished, unused time.Time) (n int64, err error) {
	defer m.lock()()
	for id, r := range m.registrations {
		if r.UsedAt.IsZero() && r.CreatedAt.Before(unfinished) || !r.UsedAt.IsZero() && r.UsedAt.Before(unused) {
			delete(m.registrations, id)
			n++
		}
	}
	return n, m.down
}

func (m *memory) Document(_ context.Context, url string) (Document, error) {
	defer m.lock()()
	d, ok := m.documents[url]
	if !ok && m.down == nil {
		return d, ledger.ErrNotFound
	}
	return d, m.down
}

func (m *memory) PutDocument(_ context.Context, d *Document) error {
	defer m.lock()()
	if m.down == nil {
		m.documents[d.URL] = *d
	}
	return m.down
}

func (m *memory) CountDocuments(context.Context) (int64, error) {
	defer m.lock()()
	return int64(len(m.documents)), m.down
}

func (m *memory) DeleteDocuments(_ context.Context, fetched time.Time) (n int64, err error) {
	defer m.lock()()
	for url, d := range m.documents {
		if d.FetchedAt.Before(fetched) {
			delete(m.documents, url)
			n++
		}
	}
	return n, m.down
}

func (m *memory) UseOnce(_ context.Context, d Digest, expires time.Time) error {
	defer m.lock()()
	if _, ok := m.used[d]; ok {
		return ledger.ErrExists
	}
	m.used[d] = expires
	return m.down
}

func (m *memory) DeleteUsed(_ context.Context, expired time.Time) (n int64, err error) {
	defer m.lock()()
	for d, expires := range m.used {
		if expires.Before(expired) {
			delete(m.used, d)
			n++
		}
	}
	return n, m.down
}
