package platform

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	"github.com/fareboxhq/farebox/internal/callstore"
	"github.com/fareboxhq/farebox/internal/gate"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/wire"

	"github.com/fareboxhq/farebox/internal/clock"
)

// site is a platform with a real store, served over HTTP, and some accounts and keys.
type site struct {
	t        *testing.T
	store    *sqlitestore.Store
	service  *admin.Service
	platform *Platform
	server   *httptest.Server
	log      *changes
	closing  chan struct{}
	signer   *ledger.Signer
	sealer   *gate.Sealer
	moved    atomic.Int64 // how far the platform's clock is ahead
	logged   *bytes.Buffer
	counted  atomic.Int64 // number of charges made by providers
	asked    asked
	used     sync.Map // ids of the keys that were reported as used

	accounts map[string]string // the ids of accounts, by the name of the account
	secrets  map[string]string // the secrets of keys, by the name of the key
	ids      map[string]string // the ids of keys, by the name of the key
}

// The type asked is a Limiter. It counts requests by lineage, and refuses those that
// exceed the burst.
type asked struct {
	mu    sync.Mutex
	count map[string]int64
}

func (a *asked) Take(lineage string, buckets [2]gate.Bucket) (q gate.Quota) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = make(map[string]int64)
	}
	if a.count[lineage]++; a.count[lineage] > buckets[0].Rate.Burst {
		q.Wait = time.Second
	}
	return q
}

// The type direct looks keys up in the store, without a cache.
type direct struct{ store *sqlitestore.Store }

func (d direct) Lookup(ctx context.Context, _ netip.Addr, digest keys.Digest) (*keys.Key, error) {
	return d.store.KeyByDigest(ctx, digest)
}

// changes is an in-memory log of revocations.
type changes struct {
	mu      sync.Mutex
	all     []keys.Digest
	nodes   map[string]int64 // the nodes that follow the log, with the positions up to which they have read it
	grown   chan struct{}
	watched map[keys.Digest]chan struct{}
}

func (c *changes) Follow(_ context.Context, node string, seen int64, _ time.Duration) (keys.Revocations, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := int64(len(c.all))
	if seen < 0 {
		seen = last
	}
	if seen > last {
		return keys.Revocations{Gap: true, Position: last}, nil
	}
	c.nodes[node] = seen
	return keys.Revocations{Digests: c.all[seen:], Position: last}, nil
}

func (c *changes) Leave(_ context.Context, node string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, node)
	return nil
}

func (c *changes) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grown
}

// Revoke appends a change to the log and notifies its watcher.
func (c *changes) Revoke(d keys.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, d)
	close(c.grown)
	c.grown = make(chan struct{})
	if w := c.watched[d]; w != nil {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (c *changes) following() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.nodes {
		names = append(names, n)
	}
	return names
}

func newSite(t *testing.T) *site {
	t.Helper()
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: filepath.Join(t.TempDir(), "f.db")})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		t: t, store: store, closing: make(chan struct{}), logged: new(bytes.Buffer),
		log:      &changes{nodes: map[string]int64{}, grown: make(chan struct{}), watched: map[keys.Digest]chan struct{}{}},
		signer:   ledger.NewSigner([ed25519.SeedSize]byte{1}),
		sealer:   gate.NewSealer(clock.Now, gate.SealKey{Key: [gate.SealKeySize]byte{1}}),
		accounts: map[string]string{}, secrets: map[string]string{}, ids: map[string]string{},
	}
	now := func() time.Time {
		return clock.Now().Add(time.Duration(s.moved.Load())).UTC().Truncate(time.Microsecond)
	}
	declared, err := keys.NewCatalogue([]keys.Scope{{Name: "reports:read"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.service = admin.New(store, s.log, func() *admin.Settings { return &admin.Settings{Scopes: declared} }, now).
		WithCalls(callstore.New(store)).WithSigner(s.signer).WithReceiptKeys(ledger.ReceiptKeys{s.signer.Public()})
	for _, name := range []string{"acme", "other", "operator", "alice", "poor"} {
		a, err := s.service.CreateAccount(t.Context(), admin.Actor{}, admin.NewAccount{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		s.accounts[name] = a.ID
	}
	for _, test := range []bool{false, true} {
		if _, err := s.service.Credit(t.Context(), admin.Actor{}, admin.Credit{Account: "alice", Amount: 10 * ledger.Unit, Reason: "r", Test: test}); err != nil {
			t.Fatal(err)
		}
	}
	for name, k := range map[string]admin.NewKey{
		"agent":         {Account: "alice"},
		"test agent":    {Account: "alice", Test: true},
		"poor agent":    {Account: "poor"},
		"capped agent":  {Account: "alice", Caps: &admin.Caps{Call: amount("0.05")}},
		"bound agent":   {Account: "alice", Servers: []string{"mail"}},
		"personal":      {Account: "alice", Kind: "personal", Scopes: []string{keys.ScopeConnect}},
		"weak personal": {Account: "alice", Kind: "personal", Scopes: []string{"reports:read"}},
		"provider":      {Account: "acme", Kind: "provider"},
		"test provider": {Account: "acme", Kind: "provider", Test: true},
		"rival":         {Account: "other", Kind: "provider"},
		"gateway":       {Account: "operator", Kind: "gateway", Servers: []string{"weather", "nowhere"}},
		"mail gateway":  {Account: "operator", Kind: "gateway", Servers: []string{"mail"}},
		"bare gateway":  {Account: "operator", Kind: "gateway"},
		"admin":         {Account: "operator", Kind: "admin"},
	} {
		k.Name = name
		key, secret, err := s.service.CreateKey(t.Context(), admin.Actor{}, k)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.secrets[name], s.ids[name] = secret, key.ID
	}
	for _, kind := range []keys.Kind{keys.Access, keys.Refresh} {
		secret := keys.Mint(kind, keys.Live)
		k := keys.Key{
			ID: ids.New("key_"), Account: s.accounts["alice"], Lineage: "grant_1", Kind: kind, Environment: keys.Live, Name: kind.String(),
			Digest: keys.DigestOf(secret), CreatedAt: now(), ExpiresAt: now().Add(time.Hour),
		}
		if err := s.service.IssueToken(t.Context(), admin.Actor{}, k); err != nil {
			t.Fatal(err)
		}
		s.secrets[kind.String()], s.ids[kind.String()] = secret, k.ID
	}
	alerts := alert.New(alertstore.New(store.Rows()), alert.Options{Now: now, NewID: ids.New, Accounts: s.service, Books: store})
	grants := oauth.New(oauthstore.New(store.Rows()), oauth.Options{Now: now, Keys: s.service, Secrets: func() *keys.Format { return &keys.DefaultFormat }})
	grant, err := grants.Approve(t.Context(), admin.Actor{}, oauth.Consent{Client: "https://client.example/id", Server: "weather", Key: s.ids["agent"]})
	if err != nil {
		t.Fatal(err)
	}
	s.ids["grant"] = grant.ID
	s.platform, err = New(Options{
		Servers: map[string]Server{
			"weather": {Earner: ledger.Earner{Provider: s.accounts["acme"], Fee: 25_000, FeeTo: s.accounts["operator"]}, Environments: []keys.Environment{keys.Live, keys.Test}},
			"prod":    {Earner: ledger.Earner{Provider: s.accounts["acme"]}, Environments: []keys.Environment{keys.Live}},
			"mail":    {Earner: ledger.Earner{Provider: s.accounts["other"]}},
		},
		Secrets: &keys.DefaultFormat, Currency: "USD", Version: "1.2.3",
		Keys: direct{store}, Ledger: store, Store: store, Admin: s.service, Alerts: alerts, Grants: &ops.Grants{OAuth: grants, Accounts: s.service}, Changes: s.log, Limiter: &s.asked, Signer: s.signer, Sealer: s.sealer,
		Watch:  s.watch,
		Logger: slog.New(slog.NewTextHandler(s.logged, nil)), Now: now,
		Used:    func(k *keys.Key) { s.used.Store(k.ID, true) },
		Charged: func(string, ledger.Amount, bool) { s.counted.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.platform.Serve(w, r, netip.MustParseAddr("192.0.2.1"), nil)
	}))
	t.Cleanup(func() {
		s.server.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) watch(d keys.Digest) (<-chan struct{}, <-chan struct{}, func()) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	changed := make(chan struct{}, 1)
	s.log.watched[d] = changed
	return changed, s.closing, func() {}
}

func amount(text string) *ledger.Amount {
	a, err := ledger.ParseAmount(text)
	if err != nil {
		panic(err)
	}
	return &a
}

// reply is the response to a request.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request with the key of the given name. If there is no key with this
// name, the name itself is sent as the secret; "" sends no key. A body that is not a
// string is encoded as JSON.
func (s *site) send(key, method, path string, body any, headers ...string) reply {
	s.t.Helper()
	var text io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		text = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		text = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+wire.Base+path, text)
	if err != nil {
		s.t.Fatal(err)
	}
	if text != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		secret, ok := s.secrets[key]
		if !ok {
			secret = key
		}
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Content-Type" {
			r.Header.Del(headers[i])
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Header, read}
}

// problem decodes the problem in a reply and checks its form.
func (s *site) problem(r reply) wire.Problem {
	s.t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(r.body, &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" || p.Status != r.status || p.Code == "" || p.Title == "" {
		s.t.Errorf("no problem: %d %s %s", r.status, r.header.Get("Content-Type"), r.body)
	}
	return p
}

// refused sends a request that must be refused with the given status and code.
func (s *site) refused(status int, code wire.Code, key, method, path string, body any, headers ...string) wire.Problem {
	s.t.Helper()
	r := s.send(key, method, path, body, headers...)
	if r.status != status {
		s.t.Errorf("%s %s by %q: %d %s, want %d", method, path, key, r.status, r.body, status)
		return wire.Problem{}
	}
	p := s.problem(r)
	if p.Code != code {
		s.t.Errorf("%s %s by %q: %s, want %s", method, path, key, r.body, code)
	}
	return p
}

// do sends a request that must succeed with the given status, and decodes the
// response.
func do[T any](s *site, status int, key, method, path string, body any, headers ...string) (v T) {
	s.t.Helper()
	r := s.send(key, method, path, body, headers...)
	if r.status != status {
		s.t.Fatalf("%s %s by %q: %d %s, want %d", method, path, key, r.status, r.body, status)
	}
	if len(r.body) > 0 {
		if err := json.Unmarshal(r.body, &v); err != nil {
			s.t.Fatalf("%s: %v", r.body, err)
		}
	}
	return v
}

// order returns an order of the gateway. The key with the given name pays. The order
// contains the gateway's proof of that key.
func (s *site) order(key string) wire.Order { return s.orderBy("gateway", "weather", key) }

// orderBy is like order, for the given gateway and server.
func (s *site) orderBy(gateway, server, key string) wire.Order {
	return wire.Order{ID: ids.New("chg_"), Key: s.ids[key], Proof: s.proof(gateway, key), Server: server, Tool: "get_forecast", Amount: 100_000}
}

// proof returns the proof that the given gateway gets when it looks the key up, or ""
// if the gateway cannot see the key.
func (s *site) proof(gateway, key string) string {
	s.t.Helper()
	digest := keys.DigestOf(s.secrets[key])
	r := s.send(gateway, "POST", "/keys/lookup", wire.Lookup{Digest: hex.EncodeToString(digest[:])})
	var told wire.Key
	if r.status == 200 {
		if err := json.Unmarshal(r.body, &told); err != nil || told.Proof == "" {
			s.t.Fatalf("%v: %s", err, r.body)
		}
	}
	return told.Proof
}

// available returns the available balance of the account with the given name.
func (s *site) available(name string, test bool) string {
	s.t.Helper()
	a, err := s.store.Account(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return a.Balance(test).Available().String()
}
