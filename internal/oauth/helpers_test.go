package oauth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// verifier is the code verifier of the tests, and challenge belongs to it.
var (
	verifier  = strings.Repeat("v", 43)
	challenge = challengeOf(verifier)
)

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const redirect = "http://localhost/callback"

var (
	operator = admin.Actor{Name: "offline", From: "192.0.2.1"}
	client   = oauth.Client{ID: "https://client.example/id", Server: "weather", Actor: admin.Actor{Name: "client"}, Refreshes: true}
	lives    = oauth.Lives{Access: 15 * 24 * time.Hour, Refresh: 30 * 24 * time.Hour}
)

// world is a service on a real store behind a real cache of keys, with a clock that only
// the test moves.
type world struct {
	*testing.T
	*oauth.Service
	store   *sqlitestore.Store
	admin   *admin.Service
	cache   *keycache.Cache
	path    string
	begin   time.Time
	ahead   atomic.Int64
	faults  faulty
	account string

	mu      sync.Mutex
	secrets []string // texts that must not be in the store's files
}

func (w *world) now() time.Time          { return w.begin.Add(time.Duration(w.ahead.Load())) }
func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// faulty is the admin.Service with errors that a test sets.
type faulty struct {
	*admin.Service
	issue, remove atomic.Int64 // number of the call, or of the token, that fails; 0 for none
}

var errBoom = errors.New("boom")

func fails(left *atomic.Int64) bool { return left.Load() > 0 && left.Add(-1) == 0 }

func (f *faulty) IssueToken(ctx context.Context, actor admin.Actor, k keys.Key) error {
	if fails(&f.issue) {
		return errBoom
	}
	return f.Service.IssueToken(ctx, actor, k)
}

func (f *faulty) DeleteTokens(ctx context.Context, actor admin.Actor, ids []string) error {
	for _, id := range ids {
		if fails(&f.remove) {
			return errBoom
		}
		if err := f.Service.DeleteTokens(ctx, actor, []string{id}); err != nil {
			return err
		}
	}
	return nil
}

// newWorld returns a world with one account. At the end of the test it searches the
// store's files for all secrets.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, path: filepath.Join(t.TempDir(), "farebox.db"), begin: clock.Now().UTC().Truncate(time.Microsecond)}
	var err error
	w.store, err = sqlitestore.Open(t.Context(), sqlitestore.Options{Path: w.path, Now: w.now})
	w.ok(err)
	w.cache, err = keycache.New(w.store, keycache.Options{TTL: time.Hour})
	w.ok(err)
	w.admin = admin.New(w.store, w.cache, func() *admin.Settings { return &admin.Settings{Scopes: declared} }, w.now)
	w.faults.Service = w.admin
	w.Service = w.node()
	w.admin.WithGrants(w.Service)
	a, err := w.admin.CreateAccount(t.Context(), operator, admin.NewAccount{Name: "alice"})
	w.ok(err)
	w.account = a.ID
	t.Cleanup(func() {
		w.cache.Close()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
		w.search()
	})
	return w
}

// declared are the scopes of the tests; the scope all includes the others.
var declared = func() *keys.Catalogue {
	c, err := keys.NewCatalogue([]keys.Scope{{Name: "read"}, {Name: "write"}, {Name: "all", Includes: []string{"read", "write"}}}, nil)
	if err != nil {
		panic(err)
	}
	return c
}()

// node returns another service that uses the same store.
func (w *world) node() *oauth.Service {
	return oauth.New(oauthstore.New(w.store.Rows()), oauth.Options{
		Now: w.now, Keys: &w.faults, Secrets: func() *keys.Format { return &keys.DefaultFormat }, Catalogue: func() *keys.Catalogue { return declared },
	})
}

// search fails the test if a secret is in a file of the store.
func (w *world) search() {
	files, err := filepath.Glob(w.path + "*")
	w.ok(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		w.ok(err)
		for _, secret := range w.secrets {
			if bytes.Contains(text, []byte(secret)) {
				w.Errorf("the secret %q is in %s", secret, filepath.Base(file))
			}
		}
	}
}

// secret adds texts to those that must not be in the store's files.
func (w *world) secret(texts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range texts {
		if text != "" {
			w.secrets = append(w.secrets, text)
		}
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("unexpected error: %v", err)
	}
}

// refused checks that err is an *oauth.Error with the code.
func (w *world) refused(err error, code oauth.Code) {
	w.Helper()
	if e, ok := errors.AsType[*oauth.Error](err); !ok || e.Code != code {
		w.Fatalf("error is %v, want the code %s", err, code)
	}
}

// key creates an agent key.
func (w *world) key(n admin.NewKey) keys.Key {
	w.Helper()
	n.Account = "alice"
	k, _, err := w.admin.CreateKey(w.Context(), operator, n)
	w.ok(err)
	return k
}

// consent is the consent by a key, with the scope "read" if the key has it.
func (w *world) consent(k *keys.Key) oauth.Consent {
	c := oauth.Consent{Client: client.ID, ClientName: "Client", Host: "localhost", Server: client.Server, Key: k.ID}
	for _, s := range []string{"read", "write"} {
		if k.HasScope(s) || declared.Includes(k.Scopes, s) {
			c.Scopes = append(c.Scopes, s)
		}
	}
	return c
}

// grant gives a grant by the key.
func (w *world) grant(k *keys.Key) oauth.Grant {
	w.Helper()
	g, err := w.Approve(w.Context(), operator, w.consent(k))
	w.ok(err)
	return g
}

// grantOfPerson gives a grant by a person.
func (w *world) grantOfPerson() oauth.Grant {
	w.Helper()
	g, err := w.Approve(w.Context(), operator, w.personal())
	w.ok(err)
	return g
}

func (w *world) personal() oauth.Consent {
	return oauth.Consent{
		Client: client.ID, ClientName: "Client", Host: "localhost", Server: client.Server, Scopes: []string{"read", "write"},
		Person: "psn_1", Account: w.account, Environment: keys.Live,
	}
}

// code issues a code for the grant.
func (w *world) code(g *oauth.Grant) string {
	w.Helper()
	code, err := w.IssueCode(w.Context(), g, oauth.AuthorizationRequest{Client: g.Client, Server: g.Server, RedirectURI: redirect, Challenge: challenge})
	w.ok(err)
	w.secret(code)
	return code
}

// tokens exchanges a new code for the grant.
func (w *world) tokens(g *oauth.Grant) oauth.Tokens {
	w.Helper()
	t, err := w.Exchange(w.Context(), client, w.code(g), redirect, verifier, lives)
	w.ok(err)
	w.secret(t.Access, t.Refresh)
	return t
}

// refresh uses a refresh token.
func (w *world) refresh(secret string, scopes ...string) oauth.Tokens {
	w.Helper()
	t, err := w.Refresh(w.Context(), client, secret, scopes, lives)
	w.ok(err)
	w.secret(t.Access, t.Refresh)
	return t
}

// lookup finds a token as an MCP server does.
func (w *world) lookup(secret string) (*keys.Key, error) {
	d, err := keys.Parse(secret)
	if err != nil {
		return nil, err
	}
	k, _, err := w.cache.Lookup(context.Background(), d, nil)
	if err != nil {
		return nil, err
	}
	return k, k.Check(w.now(), keys.Use{Scope: keys.ScopeConnect, Server: client.Server})
}

// alive checks that access tokens are accepted.
func (w *world) alive(secrets ...string) {
	w.Helper()
	for _, secret := range secrets {
		if _, err := w.lookup(secret); err != nil {
			w.Fatalf("the token is refused: %v", err)
		}
	}
}

// dead checks that access tokens are refused.
func (w *world) dead(secrets ...string) {
	w.Helper()
	for _, secret := range secrets {
		if _, err := w.lookup(secret); err == nil {
			w.Fatal("a token is accepted")
		}
	}
}

// revoked checks that the grant is revoked, and that all given tokens are refused.
func (w *world) revoked(g *oauth.Grant, tokens ...oauth.Tokens) {
	w.Helper()
	now, err := w.Grant(w.Context(), g.ID)
	w.ok(err)
	if now.RevokedAt.IsZero() || now.EndedAt.IsZero() {
		w.Fatalf("the grant is %+v", now)
	}
	for _, t := range tokens {
		w.dead(t.Access)
		_, err := w.Refresh(w.Context(), client, t.Refresh, nil, lives)
		w.refused(err, oauth.InvalidGrant)
	}
}

// actions returns the actions of the audit rows about a target, oldest first.
func (w *world) actions(target string) (all []string) {
	w.Helper()
	rows, _, err := w.store.AuditLog(w.Context(), ledger.AuditFilter{Target: target})
	w.ok(err)
	for _, row := range rows {
		all = append([]string{row.Action}, all...)
	}
	return all
}
