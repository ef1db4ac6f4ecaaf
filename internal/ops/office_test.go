package ops

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/callstore"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"

	"github.com/fareboxhq/farebox/internal/clock"
)

// revoked is a Revoker that records the digests of revoked keys.
type revoked []keys.Digest

func (r *revoked) Revoke(d keys.Digest) { *r = append(*r, d) }

// office is an admin.Service with a real store, served over HTTP, and a client of the
// service.
type office struct {
	*Client
	t       *testing.T
	store   *sqlitestore.Store
	revoked *revoked
	// settings are the current settings. At first they declare some scopes and no
	// default scopes.
	settings atomic.Pointer[admin.Settings]
}

// endpoint returns an endpoint that serves the service. It treats every client as an
// operator with the name "test".
func endpoint(s *admin.Service) *Mount {
	m := NewAdminEndpoint(asTest{}, slog.New(slog.DiscardHandler))
	Register(m, Always(s), Store())
	return m
}

// asTest authenticates every request as an operator.
type asTest struct{}

func (asTest) Authenticate(r *http.Request, _ netip.Addr) (identity.Principal, error) {
	return identity.Principal{Subject: "test", Rights: identity.Operator, Remote: r.RemoteAddr}, nil
}

// declare returns settings that declare some scopes. The arguments are the scopes that
// a personal key gets by default.
func declare(t *testing.T, defaults ...string) *admin.Settings {
	t.Helper()
	scopes, err := keys.NewCatalogue([]keys.Scope{
		{Name: "billing.read"}, {Name: "billing.write"}, {Name: "billing.agent", Includes: []string{"billing.read", "billing.write"}},
	}, defaults)
	if err != nil {
		t.Fatal(err)
	}
	return &admin.Settings{Scopes: scopes}
}

func newOffice(t *testing.T) *office {
	t.Helper()
	store, err := sqlitestore.Open(context.Background(), sqlitestore.Options{Path: filepath.Join(t.TempDir(), "f.db")})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, store: store, revoked: new(revoked)}
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	o.settings.Store(declare(t))
	server := httptest.NewServer(endpoint(admin.New(store, o.revoked, o.settings.Load, now).WithCalls(callstore.New(store))))
	t.Cleanup(func() {
		server.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Client = &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
	return o
}

// do performs an operation that must succeed, and decodes the response.
func do[T any](o *office, method, path string, body any) (answer T) {
	o.t.Helper()
	raw, err := o.Do(context.Background(), method, path, body)
	if err != nil {
		o.t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		o.t.Fatal(err)
	}
	return answer
}

// refused performs an operation that must be refused with the given code and with a
// message that contains the given words.
func (o *office) refused(code admin.Code, words, method, path string, body any) {
	o.t.Helper()
	_, err := o.Do(context.Background(), method, path, body)
	var refused *admin.Error
	if !errors.As(err, &refused) || refused.Code != code || !strings.Contains(refused.Message, words) {
		o.t.Errorf("%s %s %v: got %v, want %s with %q", method, path, body, err, code, words)
	}
}

func (o *office) account(name string) admin.AccountView {
	o.t.Helper()
	return do[admin.AccountView](o, "POST", "accounts", map[string]string{"name": name})
}

// TestAccounts checks that an account is created only once, can be found by name and by
// id, and is listed.
func TestAccounts(t *testing.T) {
	o := newOffice(t)
	a := o.account("alice")
	for _, ref := range []string{"alice", a.ID} {
		if got := do[admin.AccountView](o, "GET", "accounts/"+ref, nil); got.ID != a.ID || got.Balance != 0 {
			t.Errorf("%s: %+v", ref, got)
		}
	}
	o.refused(admin.Exists, `"alice" exists already`, "POST", "accounts", map[string]string{"name": "alice"})
	o.refused(admin.Exists, `"ALICE" exists already`, "POST", "accounts", map[string]string{"name": "ALICE"})
	o.refused(admin.Invalid, "want 1 to 254 ASCII letters", "POST", "accounts", map[string]string{"name": "alice/1"})
	o.refused(admin.Invalid, "unexpected property", "POST", "accounts", map[string]string{"name": "carl", "nom": "bob"})
	o.refused(admin.NotFound, `no account "bob"`, "GET", "accounts/bob", nil)
	o.refused(admin.NotFound, "same version", "GET", "nothing", nil)
	o.refused(admin.Invalid, "limit", "GET", "accounts?limit=501", nil)
	o.account("bob")
	seen := 0
	for after := ""; ; {
		page := do[admin.List[admin.AccountView]](o, "GET", "accounts?limit=1&after="+after, nil)
		seen += len(page.Items)
		if after = page.Next; after == "" {
			break
		}
	}
	if seen != 2 {
		t.Errorf("listed %d accounts, want 2: system accounts are not the operator's", seen)
	}
}

// oddNames are account names with characters that need escaping in a path or a query.
var oddNames = []string{"Jane.Doe+mcp@Example.com", "auth0|5f7c8ec7", "user:123", "o'brien@example.com", "b64==", "x~y"}

// TestOddNames checks that an e-mail address, or an id from another system, works as
// an account name in paths, queries and bodies.
func TestOddNames(t *testing.T) {
	o := newOffice(t)
	for _, name := range oddNames {
		a := o.account(name)
		path := "accounts/" + url.PathEscape(name)
		if got := do[admin.AccountView](o, "GET", path, nil); got.ID != a.ID || got.Name != name {
			t.Errorf("%s: %+v", name, got)
		}
		if got := do[admin.AccountView](o, "POST", path+"/credits", admin.Credit{Amount: 5, Reason: "r"}); got.ID != a.ID || got.Balance != 5 {
			t.Errorf("%s: %+v", name, got)
		}
		k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: name})
		listed := do[admin.List[admin.KeyView]](o, "GET", "keys?account="+url.QueryEscape(name), nil)
		if k.Account != a.ID || len(listed.Items) != 1 || listed.Items[0].ID != k.ID {
			t.Errorf("%s: %+v", name, listed)
		}
	}
}

// TestCredit checks that a top-up needs a reason, is made only once per id, and keeps
// live and test credits separate.
func TestCredit(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	const path = "accounts/alice/credits"
	id := ids.New("txn_")
	for range 2 {
		a := do[admin.AccountView](o, "POST", path, admin.Credit{ID: id, Amount: 1_500_000, Reason: "invoice 17"})
		if a.Balance != 1_500_000 || a.TestBalance != 0 {
			t.Errorf("balance %s, test balance %s", a.Balance, a.TestBalance)
		}
	}
	if a := do[admin.AccountView](o, "POST", path, admin.Credit{Amount: 20_000, Reason: "play", Test: true}); a.TestBalance != 20_000 || a.Balance != 1_500_000 {
		t.Errorf("balance %s, test balance %s", a.Balance, a.TestBalance)
	}
	o.refused(admin.Conflict, "used for something else", "POST", path, admin.Credit{ID: id, Amount: 1, Reason: "invoice 17"})
	o.refused(admin.Invalid, "more than zero", "POST", path, admin.Credit{Amount: 0, Reason: "x"})
	o.refused(admin.Invalid, "more than zero", "POST", path, admin.Credit{Amount: -1, Reason: "x"})
	o.refused(admin.Invalid, "reason", "POST", path, admin.Credit{Amount: 1, Reason: " "})
	o.refused(admin.Invalid, "want txn_", "POST", path, admin.Credit{ID: "mine", Amount: 1, Reason: "x"})
	o.refused(admin.Invalid, "at most six places", "POST", path, map[string]string{"amount": "0.0000001", "reason": "x"})
	o.refused(admin.Invalid, "too large", "POST", path, admin.Credit{Amount: 1<<63 - 1, Reason: "x"})
	o.refused(admin.NotFound, "bob", "POST", "accounts/bob/credits", admin.Credit{Amount: 1, Reason: "x"})
}

// TestCreateKey checks that the secret of a key is in the response to its creation,
// and that the store has only its digest.
func TestCreateKey(t *testing.T) {
	o := newOffice(t)
	a := o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Name: "laptop", Servers: []string{"weather"}, Test: true, ExpiresIn: "24h"})
	digest, err := keys.Parse(k.Secret)
	if err != nil || !strings.HasPrefix(k.Secret, "sk_test_") {
		t.Fatalf("secret has the wrong form: %v", err)
	}
	stored, err := o.store.KeyByDigest(context.Background(), digest)
	if err != nil || stored.ID != k.ID || stored.Account != a.ID || stored.Lineage != k.ID || stored.Environment != keys.Test {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if life := stored.ExpiresAt.Sub(stored.CreatedAt); life != 24*time.Hour {
		t.Errorf("lives %v", life)
	}
	if len(*o.revoked) != 1 || (*o.revoked)[0] != digest {
		t.Error("a cache that knows of no such key was not told")
	}
	p := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"agent:connect", "billing.read"}})
	if p.ExpiresAt == nil || !strings.HasPrefix(p.Secret, "pat_live_") {
		t.Errorf("a personal key without an end: %+v", p.ExpiresAt)
	}
}

// TestCreateKeyRefuses checks that a request that is invalid or contradicts itself
// creates no key.
func TestCreateKeyRefuses(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	for words, n := range map[string]admin.NewKey{
		`no account "bob"`:      {Account: "bob"},
		"unknown kind":          {Account: "alice", Kind: "root"},
		"not a time from now":   {Account: "alice", ExpiresIn: "-1h"},
		"choose the kind":       {Account: "alice", Scopes: []string{"admin"}},
		"cannot be given":       {Account: "alice", Kind: "provider", Scopes: []string{"agent:connect"}},
		`unknown scope "Billi`:  {Account: "alice", Scopes: []string{"Billing"}},
		`server "a b"`:          {Account: "alice", Servers: []string{"a b"}},
		"at most 128 bytes":     {Account: "alice", Name: strings.Repeat("x", 129)},
		"at most 64 scopes":     {Account: "alice", Scopes: make([]string, 65)},
		"key has at most 64 se": {Account: "alice", Servers: make([]string, 65)},
	} {
		code := admin.Invalid
		if n.Account == "bob" {
			code = admin.NotFound
		}
		o.refused(code, words, "POST", "keys", n)
	}
	if rows, _, err := o.store.Keys(context.Background(), ledger.KeyFilter{}); err != nil || len(rows) != 0 {
		t.Errorf("made %d keys, %v", len(rows), err)
	}
}

// TestUpdateKey checks that an update changes the properties that it names, and removes
// those for which it gives an empty value. An update that names no properties, or is
// invalid, is refused.
func TestUpdateKey(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Scopes: []string{"billing.read"}, Servers: []string{"weather"}, ExpiresIn: "1h"})
	path := "keys/" + k.ID
	if got := do[admin.KeyView](o, "PATCH", path, map[string]any{"scopes": []string{}}); len(got.Scopes) != 0 || len(got.Servers) != 1 || got.ExpiresAt == nil {
		t.Errorf("without scopes: %+v", got)
	}
	if got := do[admin.KeyView](o, "PATCH", path, map[string]any{"servers": []string{}, "expires_in": admin.Never}); len(got.Servers) != 0 || got.ExpiresAt != nil {
		t.Errorf("for all servers, for ever: %+v", got)
	}
	o.refused(admin.Invalid, "nothing to change", "PATCH", path, map[string]any{})
	o.refused(admin.Invalid, "nothing to change", "PATCH", path, map[string]any{"scopes": nil})
	o.refused(admin.Invalid, "not a time from now", "PATCH", path, map[string]any{"expires_in": ""})
	o.refused(admin.Invalid, "not a time from now", "PATCH", path, map[string]any{"expires_in": "0s"})
	o.refused(admin.Invalid, "on one line", "PATCH", path, map[string]any{"name": "two\nlines"})
	p := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}})
	o.refused(admin.Invalid, "always expires", "PATCH", "keys/"+p.ID, map[string]any{"expires_in": admin.Never})
	o.refused(admin.Invalid, "always expires", "POST", "keys", admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}, ExpiresIn: admin.Never})
	o.refused(admin.Invalid, "always expires", "POST", "keys/"+p.ID+"/rotate", admin.Rotation{ExpiresIn: admin.Never})
	log, _, err := o.store.AuditLog(context.Background(), ledger.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	updates := 0
	for _, row := range log {
		if row.Action == "key.update" {
			updates++
		}
	}
	if updates != 2 {
		t.Errorf("%d audit rows of updates, want 2", updates)
	}
}

// TestClientAtAStranger checks that the client returns an error if it reaches a server
// that is not Farebox and does not respond with JSON.
func TestClientAtAStranger(t *testing.T) {
	for _, body := range []string{"", "hello"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		c := Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
		if raw, err := c.Do(context.Background(), "GET", "accounts", nil); err == nil || !strings.Contains(err.Error(), "not Caddy's admin endpoint") {
			t.Errorf("%q: got %q, %v", body, raw, err)
		}
		server.Close()
	}
}

// TestDeleteKey checks that deleting a key marks it as deleted and invalidates the
// cache, and that the deletion can be repeated.
func TestDeleteKey(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"})
	first := do[admin.KeyView](o, "DELETE", "keys/"+k.ID, nil)
	again := do[admin.KeyView](o, "DELETE", "keys/"+k.ID, nil)
	if first.DeletedAt == nil || again.DeletedAt == nil || !first.DeletedAt.Equal(*again.DeletedAt) || first.Secret != "" {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if len(*o.revoked) != 3 {
		t.Errorf("the cache was told %d times, want 3", len(*o.revoked))
	}
	o.refused(admin.NotFound, "no key", "DELETE", "keys/key_none", nil)
	log, _, err := o.store.AuditLog(context.Background(), ledger.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var deletions int
	for _, row := range log {
		if row.Action == "key.delete" && row.Target == k.ID && row.Actor == "test" && row.From != "" {
			deletions++
		}
		if strings.Contains(row.Detail, k.Secret) {
			t.Error("the audit holds the secret")
		}
	}
	if deletions != 1 {
		t.Errorf("%d audit rows of the deletion, want 1", deletions)
	}
}

// TestChargesAndVerify checks that the endpoint lists charges by account and verifies
// the books.
func TestChargesAndVerify(t *testing.T) {
	o := newOffice(t)
	alice, acme := o.account("alice"), o.account("acme")
	do[admin.AccountView](o, "POST", "accounts/alice/credits", admin.Credit{Amount: 1_000_000, Reason: "x"})
	id := ids.New("chg_")
	_, _, err := o.store.Charge(context.Background(), id, ledger.Order{
		Account: alice.ID, Provider: acme.ID, Key: ids.New("key_"), Lineage: ids.New("key_"), Server: "weather", Tool: "t", Amount: 10_000,
	}, ledger.Terms{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"charges": 1, "charges?account=alice": 1, "charges?account=acme": 0} {
		page := do[admin.List[admin.ChargeView]](o, "GET", path, nil)
		if len(page.Items) != want || want == 1 && (page.Items[0].ID != id || page.Items[0].State != "captured" || page.Items[0].Environment != "live") {
			t.Errorf("%s: %+v", path, page.Items)
		}
	}
	o.refused(admin.NotFound, "bob", "GET", "charges?account=bob", nil)
	if v := do[admin.VerificationView](o, "POST", "ledger/verify", struct{}{}); len(v.Differences) != 0 || v.Transactions != 2 {
		t.Errorf("verification %+v", v)
	}
}

// TestStoreDown checks that a request is refused if the store is down, and that the
// client does not learn the cause.
func TestStoreDown(t *testing.T) {
	o := newOffice(t)
	if err := o.store.Close(); err != nil {
		t.Fatal(err)
	}
	o.refused(admin.Unavailable, "server's log", "POST", "accounts", map[string]string{"name": "alice"})
}

// noServers stands for a config without servers.
type noServers struct{}

func (noServers) ListServers() []ServerView                { return []ServerView{} }
func (noServers) ShowServer(string) (*ServerDetail, error) { return new(ServerDetail), nil }
func (noServers) CheckServer(context.Context, string, string) (*CheckView, error) {
	return nil, &admin.Error{Code: admin.NotFound, Message: "none"}
}

// TestToken checks that the admin endpoint admits only clients that know the token from
// the server's token file. The server creates the file when a request first needs it.
// Only the file's owner can read it.
func TestToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	m := NewAdminEndpoint(admin.Local{Dir: func() string { return dir }, Name: "test"}, slog.New(slog.DiscardHandler))
	Register(m, Always[Servers](noServers{}), OnServers())
	server := httptest.NewServer(m)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	file := admin.TokenFile(dir, host)
	stranger := Client{HTTP: server.Client(), Host: host}
	if _, err := stranger.Do(context.Background(), "GET", "servers", nil); err == nil {
		t.Error("a stranger got in")
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token file: %v, %v", info.Mode(), err)
	}
	owner := Client{HTTP: server.Client(), Host: host, Token: func() (string, error) { return admin.ReadToken(file) }}
	for range 2 {
		if _, err := owner.Do(context.Background(), "GET", "servers", nil); err != nil {
			t.Error(err)
		}
	}
	liar := Client{HTTP: server.Client(), Host: host, Token: func() (string, error) { return strings.Repeat("0", 64), nil }}
	if _, err := liar.Do(context.Background(), "GET", "servers", nil); err == nil {
		t.Error("a wrong token got in")
	}
	if again, err := admin.EnsureToken(file); err != nil || again == "" {
		t.Error(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ReadToken(file); err == nil || !strings.Contains(err.Error(), "read by others") {
		t.Errorf("a token that all can read is trusted: %v", err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.EnsureToken(file); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged token is used: %v", err)
	}
	link := file + ".link"
	if err := errors.Join(os.Remove(file), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.EnsureToken(file); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ReadToken(link); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link is trusted: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.ReadToken(file); err == nil || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("another's token is trusted: %v", err)
		}
	}
	if a, b := admin.TokenFile(dir, "127.0.0.1:2019"), admin.TokenFile(dir, "[::1]:2019"); a == b || filepath.Dir(a) != dir {
		t.Error("two listeners share a file")
	}
}

// TestAdjust checks that an adjustment can raise or lower a balance, even below zero,
// and needs a reason.
func TestAdjust(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	const path = "accounts/alice/adjustments"
	if a := do[admin.AccountView](o, "POST", path, admin.Credit{Amount: -2_000_000, Reason: "was credited twice"}); a.Balance != -2_000_000 {
		t.Errorf("balance %s", a.Balance)
	}
	if a := do[admin.AccountView](o, "POST", path, admin.Credit{Amount: 2_500_000, Reason: "was not"}); a.Balance != 500_000 {
		t.Errorf("balance %s", a.Balance)
	}
	o.refused(admin.Invalid, "of zero", "POST", path, admin.Credit{Reason: "x"})
	o.refused(admin.Invalid, "reason", "POST", path, admin.Credit{Amount: 1})
	if v := do[admin.VerificationView](o, "POST", "ledger/verify", struct{}{}); len(v.Differences) != 0 {
		t.Errorf("differences %v", v.Differences)
	}
}

// TestRefund checks that a charge can be refunded in parts and as a whole, but never
// beyond its amount. A refund is made only once per id. The journal contains all
// refunds.
func TestRefund(t *testing.T) {
	o := newOffice(t)
	alice, acme := o.account("alice"), o.account("acme")
	do[admin.AccountView](o, "POST", "accounts/alice/credits", admin.Credit{Amount: 1_000_000, Reason: "x"})
	id := ids.New("chg_")
	_, _, err := o.store.Charge(context.Background(), id, ledger.Order{
		Account: alice.ID, Provider: acme.ID, Key: ids.New("key_"), Lineage: ids.New("key_"), Server: "weather", Tool: "t", Amount: 10_000,
	}, ledger.Terms{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := "charges/" + id
	if c := do[admin.ChargeView](o, "GET", path, nil); c.ID != id || c.Refunded != 0 {
		t.Errorf("charge %+v", c)
	}
	part, retry := ledger.Amount(4_000), ids.New("txn_")
	for range 2 {
		if c := do[admin.ChargeView](o, "POST", path+"/refunds", admin.Refund{ID: retry, Amount: &part, Reason: "late"}); c.Refunded != 4_000 {
			t.Errorf("refunded %s", c.Refunded)
		}
	}
	much, none := ledger.Amount(6_001), ledger.Amount(0)
	o.refused(admin.Invalid, "more than is left", "POST", path+"/refunds", admin.Refund{Amount: &much, Reason: "x"})
	o.refused(admin.Invalid, "more than zero", "POST", path+"/refunds", admin.Refund{Amount: &none, Reason: "x"})
	o.refused(admin.Invalid, "reason", "POST", path+"/refunds", admin.Refund{})
	o.refused(admin.NotFound, "no charge", "POST", "charges/chg_none/refunds", admin.Refund{Reason: "x"})
	o.refused(admin.NotFound, "no charge", "GET", "charges/"+ids.New("chg_"), nil)
	if c := do[admin.ChargeView](o, "POST", path+"/refunds", admin.Refund{Reason: "all of it"}); c.Refunded != 10_000 {
		t.Errorf("refunded %s", c.Refunded)
	}
	o.refused(admin.Invalid, "nothing is left", "POST", path+"/refunds", admin.Refund{Reason: "x"})
	if a := do[admin.AccountView](o, "GET", "accounts/alice", nil); a.Balance != 1_000_000 {
		t.Errorf("balance %s", a.Balance)
	}
	journal := do[admin.List[admin.TransactionView]](o, "GET", "journal", nil)
	if len(journal.Items) != 4 || journal.Items[1].Tool != "t" || journal.Items[3].Charge != id || journal.Items[3].Amount != 6_000 {
		t.Errorf("journal %+v", journal.Items)
	}
}

// TestRotateKey checks that the successor of a key expires when the old key would have
// expired, unless the request sets another time. After that, the old key can neither be
// rotated again nor get a later expiry.
func TestRotateKey(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	old := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}, ExpiresIn: "2400h"})
	do[admin.KeyView](o, "PATCH", "keys/"+old.ID, map[string]any{"expires_in": "1h"})
	narrowed := do[admin.KeyView](o, "GET", "keys/"+old.ID, nil)
	next := do[admin.KeyView](o, "POST", "keys/"+old.ID+"/rotate", admin.Rotation{Grace: "30m"})
	if !next.ExpiresAt.Equal(*narrowed.ExpiresAt) || next.Lineage != old.ID || next.Secret == "" || next.Secret == old.Secret {
		t.Errorf("successor %+v of %+v", next, narrowed)
	}
	retired := do[admin.KeyView](o, "GET", "keys/"+old.ID, nil)
	if retired.Successor != next.ID || !retired.ExpiresAt.Before(*narrowed.ExpiresAt) {
		t.Errorf("retired %+v", retired)
	}
	o.refused(admin.Invalid, next.ID, "POST", "keys/"+old.ID+"/rotate", admin.Rotation{})
	o.refused(admin.Invalid, next.ID, "PATCH", "keys/"+old.ID, map[string]any{"expires_in": "24h"})
	o.refused(admin.Invalid, "always expires", "POST", "keys/"+next.ID+"/rotate", admin.Rotation{ExpiresIn: admin.Never})
	last := do[admin.KeyView](o, "POST", "keys/"+next.ID+"/rotate", admin.Rotation{ExpiresIn: "48h"})
	if life := last.ExpiresAt.Sub(last.CreatedAt); life < 47*time.Hour || last.Lineage != old.ID {
		t.Errorf("lives %v", life)
	}
}
