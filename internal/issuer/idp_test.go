package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	idpURL   = "https://idp.example.com"
	audience = "https://mcp.example.com/weather/mcp"
)

var (
	rsaKey, _       = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _        = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _     = ed25519.GenerateKey(rand.Reader)
	foreignKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	clientAddress   = netip.MustParseAddr("192.0.2.1")
	errUnreachable  = errors.New("connection refused")
	declaredForTest = func() *keys.Catalogue {
		c, err := keys.NewCatalogue([]keys.Scope{{Name: "forecast.read"}, {Name: "stations.write"}}, nil)
		if err != nil {
			panic(err)
		}
		return c
	}()
)

// idp is an issuer without a network: the Source sends its requests to the method
// RoundTrip.
type idp struct {
	mu        sync.Mutex
	url       string
	signer    crypto.Signer
	alg       jose.SignatureAlgorithm
	kid       string
	published []jose.JSONWebKey
	down      bool
	maxAge    string
	requests  map[string]int // by path
	handlers  map[string]http.HandlerFunc
	active    map[string]map[string]any // answers about opaque tokens
}

func newIDP() *idp {
	return &idp{
		url: idpURL, signer: rsaKey, alg: jose.RS256, kid: "one", requests: make(map[string]int), handlers: make(map[string]http.HandlerFunc),
		published: []jose.JSONWebKey{
			{Key: rsaKey.Public(), KeyID: "one", Use: "sig"}, {Key: ecKey.Public(), KeyID: "ec"}, {Key: edKey.Public(), KeyID: "ed"},
		},
		active: make(map[string]map[string]any),
	}
}

// RoundTrip answers a request.
func (p *idp) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[r.URL.Path]++
	if p.down {
		return nil, errUnreachable
	}
	w := httptest.NewRecorder()
	switch handler := p.handlers[r.URL.Path]; {
	case handler != nil:
		handler(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys"})
	case r.URL.Path == "/keys":
		if p.maxAge != "" {
			w.Header().Set("Cache-Control", p.maxAge)
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.published})
	case r.URL.Path == "/introspect":
		id, secret, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || id != "farebox" || secret != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			break
		}
		answer := p.active[r.PostForm.Get("token")]
		if answer == nil {
			answer = map[string]any{"active": false}
		}
		_ = json.NewEncoder(w).Encode(answer)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	response := w.Result()
	response.Request = r
	return response, nil
}

func (p *idp) asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[path]
}

func (p *idp) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// usual returns the claims of a valid token, with changes. A nil value removes a claim.
func usual(changes map[string]any) map[string]any {
	now := clock.Now().Unix()
	c := map[string]any{"iss": idpURL, "sub": "alice", "aud": audience, "exp": now + 3600, "iat": now, "scope": "forecast.read openid", "client_id": "agent"}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// sign signs a payload as the issuer, with more members of the header.
func (p *idp) sign(t testing.TB, payload []byte, header map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithHeader("typ", "at+jwt")
	for name, value := range header {
		o = o.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: p.alg, Key: jose.JSONWebKey{Key: p.signer, KeyID: p.kid}}, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// token returns a token with the claims of usual.
func (p *idp) token(t testing.TB, changes map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(usual(changes))
	if err != nil {
		t.Fatal(err)
	}
	return p.sign(t, payload, nil)
}

// forge returns a token with any header and payload, and a signature made by a function of
// the signed text.
func forge(header, payload string, signature func(text string) []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(header)) + "." + encode([]byte(payload))
	return text + "." + encode(signature(text))
}

// books are accounts in memory.
type books struct {
	mu       sync.Mutex
	accounts map[string]ledger.Account // by id
	credits  map[string]ledger.Amount  // by id
	opened   int
	err      error
}

func newBooks(existing ...ledger.Account) *books {
	b := &books{accounts: make(map[string]ledger.Account), credits: make(map[string]ledger.Amount)}
	for _, a := range existing {
		b.accounts[a.ID] = a
	}
	return b
}

// Find implements Accounts as the stores do: names match in any case.
func (b *books) Find(_ context.Context, ref string) (ledger.Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return ledger.Account{}, b.err
	}
	if a, ok := b.accounts[ref]; ok {
		return a, nil
	}
	for _, a := range b.accounts {
		if ledger.FoldName(a.Name) == ledger.FoldName(ref) {
			return a, nil
		}
	}
	return ledger.Account{}, ledger.ErrNotFound
}

// Open implements Accounts.
func (b *books) Open(_ context.Context, o Opening) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	if b.err != nil {
		return b.err
	}
	if _, ok := b.accounts[o.ID]; !ok {
		b.accounts[o.ID] = ledger.Account{ID: o.ID, Name: o.Name}
	}
	b.credits[o.ID] = o.Credit
	return nil
}

// counted are Metrics that count.
type counted struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counted) IssuerFetched(kind string, ok bool) { c.add(kind) }
func (c *counted) IssuerToken(result string)          { c.add(result) }

func (c *counted) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[name]++
}

// site is an authenticator with its issuer and its books.
type site struct {
	*Authenticator
	idp     *idp
	books   *books
	metrics *counted
	log     *bytes.Buffer
}

// newSite returns a site that trusts one issuer. The function change alters the usual
// settings.
func newSite(t testing.TB, change func(*Options, *Trust), existing ...ledger.Account) *site {
	t.Helper()
	s := &site{idp: newIDP(), books: newBooks(existing...), metrics: new(counted), log: new(bytes.Buffer)}
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	o := Options{Issuer: idpURL, Transport: s.idp, Metrics: s.metrics, Logger: logger}
	trust := Trust{Audiences: []string{audience}, Account: AccountRule{Claim: "sub", Create: true}, Environment: keys.Live}
	if change != nil {
		change(&o, &trust)
	}
	source, err := NewSource(o)
	if err != nil {
		t.Fatal(err)
	}
	trust.Source = source
	s.Authenticator, err = NewAuthenticator(Setup{
		Trusts: []Trust{trust}, Scopes: declaredForTest, Secrets: &keys.DefaultFormat, Accounts: s.books, Metrics: s.metrics, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// outcome returns the result of an authentication as a word.
func outcome(c gate.Caller, err error) string {
	switch {
	case err == nil && !c.ExpiresAt.IsZero() && !clock.Now().Before(c.ExpiresAt):
		return "expired"
	case err == nil && c.Known():
		return "accepted"
	case errors.Is(err, gate.ErrOtherCredential):
		return "other"
	case errors.Is(err, gate.ErrNoAccount):
		return "no account"
	case errors.Is(err, gate.ErrFlood):
		return "flood"
	case errors.Is(err, keys.ErrUnknown):
		return "refused"
	}
	return "unavailable"
}

// try returns the outcome of a token.
func (s *site) try(t testing.TB, token string) string {
	t.Helper()
	c, err := s.Authenticate(t.Context(), clientAddress, token)
	if err != nil && len(token) > 20 && strings.Contains(err.Error(), token[len(token)-20:]) {
		t.Errorf("the error quotes the token: %v", err)
	}
	return outcome(c, err)
}

// seconds returns a duration of whole seconds.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
