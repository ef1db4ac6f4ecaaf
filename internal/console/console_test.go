package console

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	"github.com/fareboxhq/farebox/internal/callstore"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/sqltx"
	"github.com/fareboxhq/farebox/internal/top"
)

const (
	base     = "https://gateway.example.com/console"
	password = "four odd horses walked past"
)

// secureCookie is the name of the session's cookie in a console with https.
const secureCookie = "__Host-farebox"

// world is a console with a real store and a clock that the test sets.
type world struct {
	*testing.T
	console *Console
	store   testStore
	admin   *admin.Service
	people  *people.Service
	alerts  *alert.Service
	grants  *oauth.Service
	scopes  *keys.Catalogue

	connector Connector
	signer    *ledger.Signer
	calls     *callstore.Store
	ahead     atomic.Int64
	figures   func() (*top.View, error)
	nodes     nodes
}

// testStore is a store with the methods that the console's tests use.
type testStore interface {
	admin.Store
	alert.Books
	callstore.Backend
	Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, response []byte) (ledger.Charge, ledger.Balance, error)
	SumUsage(ctx context.Context) (ledger.UsageProgress, error)
	Rows() sqltx.Database
	Close() error
}

func (w *world) now() time.Time {
	return clock.Now().Add(time.Duration(w.ahead.Load())).UTC().Truncate(time.Microsecond)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, openSQLite)
}

// openSQLite opens an empty store with the clock of a world.
func openSQLite(w *world) (testStore, error) {
	return sqlitestore.Open(w.Context(), sqlitestore.Options{Path: filepath.Join(w.TempDir(), "farebox.db"), Now: w.now})
}

// newWorldOn makes a world. It calls open(w) to open the store of the world.
func newWorldOn(t *testing.T, open func(*world) (testStore, error)) *world {
	t.Helper()
	w := &world{T: t, figures: func() (*top.View, error) { return nil, errors.New("no metrics in this test") }}
	var err error
	if w.store, err = open(w); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	settings := &admin.Settings{Secrets: &keys.DefaultFormat}
	w.signer = ledger.NewSigner([ed25519.SeedSize]byte{1})
	w.admin = admin.New(w.store, quiet{}, func() *admin.Settings { return settings }, w.now).WithReceiptKeys(ledger.ReceiptKeys{w.signer.Public()})
	w.calls = callstore.New(w.store)
	w.admin.WithCalls(w.calls)
	w.people = people.New(peoplestore.New(w.store.Rows()), people.Options{Now: w.now, Accounts: w.admin})
	w.alerts = alert.New(alertstore.New(w.store.Rows()), alert.Options{Now: w.now, NewID: id.New, Accounts: w.admin, Books: w.store})
	w.alerts.Configure(alert.Config{Currency: "USD"})
	w.grants = oauth.New(oauthstore.New(w.store.Rows()), oauth.Options{
		Now: w.now, Keys: w.admin, Secrets: func() *keys.Format { return &keys.DefaultFormat }, Catalogue: func() *keys.Catalogue { return w.scopes },
	})
	address, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	w.configure(people.Settings{})
	m := ops.NewAdminEndpoint(identity.InContext{}, slog.New(slog.DiscardHandler))
	ops.Register(m, ops.Always(w.admin), ops.Store())
	ops.Register(m, ops.Always(w.people), ops.OnPeople())
	ops.Register(m, ops.Always(w.alerts), ops.OnAlerts())
	ops.Register(m, ops.Always(&ops.Grants{OAuth: w.grants, Accounts: w.admin}), ops.OnGrants())
	ops.Register(m, ops.Always[ops.Servers](servers{}), ops.OnServers())
	ops.Register(m, ops.Always[ops.Nodes](&w.nodes), ops.OnNodes())
	w.console, err = New(Options{
		Address: address, Open: func() (*people.Service, func(), error) { return w.people, func() {}, nil }, Operations: m,
		Health: func() ops.HealthView { return ops.HealthView{Status: ops.StatusReady} }, Currency: "USD", Now: w.now,
		Figures: func() (*top.View, error) { return w.figures() }, Node: "host/1",
		Connect: func() Connector { return w.connector },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// configure applies the settings of package people, with the origin and links of the
// console.
func (w *world) configure(s people.Settings) {
	w.Helper()
	s.Origin, s.Link = "https://gateway.example.com", func(secret string) string { return base + "/invite/" + secret }
	if err := w.people.Configure(s); err != nil {
		w.Fatal(err)
	}
}

// quiet is a Revoker that does nothing, because there is no cache.
type quiet struct{}

func (quiet) Revoke(keys.Digest) {}

// nodes stands for the processes at a store.
type nodes struct {
	list []ops.NodeView
	err  error
}

func (n *nodes) Nodes(context.Context) ([]ops.NodeView, error) { return n.list, n.err }

// servers stands for a config with one server, which cannot be reached.
type servers struct{}

func (servers) ListServers() []ops.ServerView {
	return []ops.ServerView{{Name: "weather", Provider: "acme", URL: "https://gateway.example.com/mcp", Unpriced: "deny"}}
}

func (servers) ShowServer(name string) (*ops.ServerDetail, error) {
	if name != "weather" {
		return nil, &admin.Error{Code: admin.NotFound, Message: "there is no server " + name}
	}
	cent, at := ledger.Amount(10_000), clock.Now()
	return &ops.ServerDetail{
		ServerView: servers{}.ListServers()[0], CheckedAt: &at, Scopes: []ops.ScopeView{{Items: "tool-*", Scopes: []string{"weather.read"}}},
		Prices: []ops.PriceView{
			{Pattern: "tool-*", Kind: "tool", Amount: &cent, ChargeIf: "<b>result</b>", Source: "Caddyfile:7", Items: []ops.KnownItem{{Kind: "tool", Name: "tool-of-alice", Tool: "tool-of-alice", ChangedAt: &at}}},
			{Pattern: "idle", Kind: "tool", Expression: "size(args.text)", Max: &cent},
		},
		NoPrice: []ops.KnownItem{{Kind: "tool", Name: "forgotten", Tool: "forgotten", State: ops.ItemHidden, Reason: "no price names it"}},
	}, nil
}

func (servers) CheckServer(context.Context, string, string) (*ops.CheckView, error) {
	return nil, &admin.Error{Code: admin.Unavailable, Message: "<script>the server</script> does not answer"}
}

// browser is a visitor's browser. It keeps cookies.
type browser struct {
	w       *world
	cookies map[string]string
	person  people.Person
}

func (w *world) browser() *browser { return &browser{w: w, cookies: map[string]string{}} }

// person creates a person by an invitation, with a password, and returns its browser.
func (w *world) person(email string, n people.NewInvitation) *browser {
	w.Helper()
	_, secret, err := w.people.Invite(w.Context(), admin.Actor{Name: "offline"}, n)
	if err != nil {
		w.Fatal(err)
	}
	b := w.browser()
	resp, body := b.post("/invite/"+secret, url.Values{"email": {email}, "password": {password}})
	if resp.StatusCode != http.StatusSeeOther || b.cookies[secureCookie] == "" {
		w.Fatalf("%s is not let in: %s\n%s", email, resp.Status, body)
	}
	if b.person, err = w.people.Person(w.Context(), email); err != nil {
		w.Fatal(err)
	}
	return b
}

func (b *browser) get(path string) (*http.Response, string) {
	return b.send(httptest.NewRequestWithContext(b.w.Context(), http.MethodGet, base+path, nil))
}

// post sends a form with the token of the session.
func (b *browser) post(path string, form url.Values) (*http.Response, string) {
	sent := url.Values{}
	for name, values := range form {
		sent[name] = values
	}
	if token := b.cookies[secureCookie]; token != "" && sent.Get(formToken) == "" {
		v := &visit{token: token}
		sent.Set(formToken, v.formToken())
	}
	r := httptest.NewRequestWithContext(b.w.Context(), http.MethodPost, base+path, strings.NewReader(sent.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(r)
}

func (b *browser) send(r *http.Request) (*http.Response, string) {
	b.w.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.w.console.Serve(w, r, netip.MustParseAddr("192.0.2.7"))
	resp := w.Result()
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.w.Fatal(err)
	}
	return resp, string(body)
}

// account makes an account with credits and a key. The key pays one charge, which the
// account "acme" earns.
func (w *world) account(name string) (a ledger.Account, k keys.Key, charge string) {
	w.Helper()
	ctx, by := w.Context(), admin.Actor{Name: "offline"}
	acme, err := w.admin.EnsureAccount(ctx, by, "acme")
	if err == nil {
		a, err = w.admin.CreateAccount(ctx, by, admin.NewAccount{Name: name})
	}
	if err == nil {
		_, err = w.admin.Credit(ctx, by, admin.Credit{Account: a.ID, Amount: 5_000_000, Reason: "x"})
	}
	if err == nil {
		k, _, err = w.admin.CreateKey(ctx, by, admin.NewKey{Account: a.ID, Name: name + "'s key"})
	}
	charge = id.New("chg_")
	if err == nil {
		_, _, err = w.store.Charge(ctx, charge, ledger.Order{
			Account: a.ID, Provider: acme.ID, Key: k.ID, Lineage: k.Lineage, Server: "weather", Tool: "tool-of-" + name, Amount: 10_000,
		}, ledger.Terms{}, nil)
	}
	if err != nil {
		w.Fatal(err)
	}
	return a, k, charge
}

// grant lets an app call the server "weather" at the expense of the key.
func (w *world) grant(name, key string) (id string) {
	w.Helper()
	g, err := w.grants.Approve(w.Context(), admin.Actor{Name: key}, oauth.Consent{
		Client: "https://app.example/of-" + name, ClientName: "app-of-" + name, Host: "back.example", Server: "weather", Key: key,
	})
	if err != nil {
		w.Fatal(err)
	}
	return g.ID
}
