package people_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/people"
)

// idp is an OpenID provider that signs in every user without asking.
type idp struct {
	w       *world
	server  *httptest.Server
	key     *ecdsa.PrivateKey
	signer  *ecdsa.PrivateKey // signs the tokens; equal to key unless a test changes it
	claims  map[string]any    // claims of the next token, beside those that the protocol requires
	tokens  int               // number of requests to the token endpoint
	pending url.Values        // parameters of the last redirect to the provider
}

const (
	clientID     = "farebox"
	clientSecret = "a secret of the client"
	callback     = origin + "/provider"
)

// newIDP returns an OpenID provider, and in it a world with a service that uses the
// provider.
func newIDP(t *testing.T, settings people.Settings, change func(*people.Provider)) *idp {
	t.Helper()
	p := &idp{claims: map[string]any{"sub": "user-1", "email": "A@example.com", "email_verified": true, "name": "Zoë"}}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.signer = p.key
	p.server = httptest.NewServer(p.handler())
	t.Cleanup(p.server.Close)
	settings.Provider = &people.Provider{Issuer: p.server.URL, ClientID: clientID, ClientSecret: clientSecret, Callback: callback}
	if change != nil {
		change(settings.Provider)
	}
	p.w = newWorld(t, settings)
	p.w.secret(clientSecret)
	return p
}

func (p *idp) handler() http.Handler {
	mux := http.NewServeMux()
	send := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			p.w.Error(err)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		send(w, map[string]any{
			"issuer": p.server.URL, "authorization_endpoint": p.server.URL + "/authorize", "token_endpoint": p.server.URL + "/token",
			"jwks_uri": p.server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		send(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.tokens++
		challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		user, password, _ := r.BasicAuth()
		if r.PostFormValue("code") != "code" || user != clientID || unescape(password) != clientSecret || r.PostFormValue("redirect_uri") != callback ||
			base64.RawURLEncoding.EncodeToString(challenge[:]) != p.pending.Get("code_challenge") {
			w.WriteHeader(http.StatusBadRequest)
			send(w, map[string]string{"error": "invalid_grant"})
			return
		}
		send(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": p.token()})
	})
	return mux
}

func unescape(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return ""
	}
	return plain
}

// token returns a signed ID token with the claims of the idp.
func (p *idp) token() string {
	now := p.w.now()
	claims := map[string]any{
		"iss": p.server.URL, "aud": clientID, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "nonce": p.pending.Get("nonce"),
	}
	maps.Copy(claims, p.claims)
	payload, err := json.Marshal(claims)
	p.w.ok(err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.signer}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	p.w.ok(err)
	signed, err := signer.Sign(payload)
	p.w.ok(err)
	text, err := signed.CompactSerialize()
	p.w.ok(err)
	return text
}

// begin begins a visit to the provider. It returns the secret of the ceremony, and the
// state from the query of the provider's address.
func (p *idp) begin(by *people.SignedIn) (ceremony, state string) {
	p.w.Helper()
	address, ceremony, err := p.w.BeginProvider(p.w.Context(), client(1), by)
	p.w.ok(err)
	u, err := url.Parse(address)
	p.w.ok(err)
	p.pending = u.Query()
	if !strings.HasPrefix(address, p.server.URL+"/authorize?") || p.pending.Get("code_challenge_method") != "S256" || p.pending.Get("redirect_uri") != callback {
		p.w.Errorf("the address is %s", address)
	}
	return p.w.secret(ceremony), p.pending.Get("state")
}

// signIn signs in by the provider, as the user that the claims describe.
func (p *idp) signIn() (people.SignedIn, string, error) {
	p.w.Helper()
	ceremony, state := p.begin(nil)
	return p.w.FinishProvider(p.w.Context(), client(1), ceremony, state, "code")
}

// TestProvider checks that a user of the provider becomes a person with the memberships
// that the config names, and stays the same person at later sign-ins.
func TestProvider(t *testing.T) {
	p := newIDP(t, people.Settings{}, func(c *people.Provider) {
		c.Accounts = []people.ProviderAccount{{Domain: "example.com", Account: "acme", Role: people.Viewer}, {Group: "billing", Account: "acme", Role: people.Owner}, {Group: "ops", Account: "beta", Role: people.Owner}}
	})
	acme, beta := p.w.account("acme"), p.w.account("beta")
	p.claims["groups"] = []string{"billing", "staff"}
	in, token, err := p.signIn()
	p.w.ok(err)
	p.w.secret(token)
	if q := in.Person; q.Email != "a@example.com" || q.Name != "Zoë" || q.Role(acme) != people.Owner || q.Role(beta) != "" || !q.HasProvider || q.HasPassword || q.Operator {
		t.Errorf("the person is %+v", q)
	}
	p.claims["email"], p.claims["groups"] = "renamed@example.com", "ops"
	again, fresh, err := p.signIn()
	p.w.ok(err)
	if again.Person.ID != in.Person.ID || again.Person.Email != "a@example.com" || again.Person.Role(beta) != "" || fresh == token {
		t.Errorf("the person is %+v", again.Person)
	}
	p.w.want(p.w.DisconnectProvider(t.Context(), again), people.ErrLastCredential)
	_, err = p.w.Disable(t.Context(), operator, in.Person.ID)
	p.w.ok(err)
	_, _, err = p.signIn()
	p.w.want(err, people.ErrProvider)
	if got := p.w.actions(in.Person.ID); !slices.Equal(got, []string{"person.create", "person.signin", "person.signin", "person.disable"}) {
		t.Errorf("audited %q", got)
	}
	if p.w.Settings().Provider.ClientSecret != "" {
		t.Error("the settings show the client's secret")
	}
}

// TestProviderRefused checks that a redirect is refused if its state or code is wrong,
// if it comes twice, or if it is too late. A token is refused if its signature, issuer,
// audience, nonce or subject is wrong, or if it has expired. No person is created.
func TestProviderRefused(t *testing.T) {
	p := newIDP(t, people.Settings{}, func(c *people.Provider) {
		c.Accounts = []people.ProviderAccount{{Domain: "example.com", Account: "acme", Role: people.Viewer}}
	})
	p.w.account("acme")
	finish := func(ceremony, state, code string) error {
		_, _, err := p.w.FinishProvider(t.Context(), client(1), ceremony, state, code)
		return err
	}
	ceremony, state := p.begin(nil)
	p.w.want(finish(ceremony, "other", "code"), people.ErrCeremony)
	p.w.want(finish(ceremony, state, "code"), people.ErrCeremony) // the first attempt ended the ceremony
	ceremony, _ = p.begin(nil)
	p.w.want(finish(ceremony, state, "code"), people.ErrCeremony) // the state belongs to another ceremony
	ceremony, state = p.begin(nil)
	p.w.advance(people.CeremonyLife)
	p.w.want(finish(ceremony, state, "code"), people.ErrCeremony)
	if p.tokens != 0 {
		t.Errorf("%d codes were sent", p.tokens)
	}
	ceremony, state = p.begin(nil)
	p.w.want(finish(ceremony, state, "other"), people.ErrProvider)
	ceremony, state = p.begin(nil)
	p.pending.Set("code_challenge", "of another visit")
	p.w.want(finish(ceremony, state, "code"), people.ErrProvider)
	for name, value := range map[string]any{
		"iss": "https://evil.example", "aud": "other", "nonce": "other", "exp": p.w.now().Add(-time.Hour).Unix(), "sub": strings.Repeat("x", 300),
		"email_verified": false, "email": "not an address",
	} {
		before, had := p.claims[name]
		p.claims[name] = value
		_, _, err := p.signIn()
		if !errors.Is(err, people.ErrProvider) {
			t.Errorf("%s %v: %v", name, value, err)
		}
		if delete(p.claims, name); had {
			p.claims[name] = before
		}
	}
	var err error
	if p.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.signIn()
	p.w.want(err, people.ErrProvider)
	p.signer = p.key
	list, _, err := p.w.Persons(t.Context(), people.PersonQuery{})
	p.w.ok(err)
	if len(list) != 0 {
		t.Errorf("persons %+v", list)
	}
	_, _, err = p.signIn()
	p.w.ok(err)
}

// TestProviderDomains checks that only users with a verified address in an allowed
// domain sign in, even if they are persons already. A new user without mapped
// memberships is refused while registration is closed, and gets one account of its own
// while registration is open.
func TestProviderDomains(t *testing.T) {
	settings := people.Settings{}
	p := newIDP(t, settings, func(c *people.Provider) { c.Domains = []string{"example.com"} })
	_, _, err := p.signIn()
	p.w.want(err, people.ErrRegistration)
	now := p.w.Settings()
	now.Registration = &people.Registration{Domains: []string{"example.com"}, Credit: 500_000}
	now.Provider.ClientSecret = clientSecret
	p.w.ok(p.w.Configure(now))
	p.claims["email"] = "a@example.org"
	_, _, err = p.signIn()
	p.w.want(err, people.ErrProvider)
	p.claims["email"] = "a@example.com"
	in, _, err := p.signIn()
	p.w.ok(err)
	if len(in.Person.Accounts) != 1 || in.Person.Accounts[0].Role != people.Owner {
		t.Fatalf("the person is %+v", in.Person)
	}
	account, err := p.w.admin.Account(t.Context(), in.Person.Accounts[0].Account)
	p.w.ok(err)
	if account.Name != "a@example.com" || account.Live.Posted != 500_000 {
		t.Errorf("the account is %+v", account)
	}
	_, err = p.w.Remove(t.Context(), operator, in.Person.ID)
	p.w.ok(err)
	again, _, err := p.signIn() // the account is the former one, so the user gets no second starting credit
	p.w.ok(err)
	if !slices.Equal(again.Person.Accounts, in.Person.Accounts) {
		t.Errorf("the accounts are %+v", again.Person.Accounts)
	}
	p.claims["email_verified"] = false
	_, _, err = p.signIn()
	p.w.want(err, people.ErrProvider)
}

// TestConnectProvider checks that a provider's user with the e-mail address of a person
// does not become that person. The person must connect the provider itself, in a
// session younger than FreshTime.
func TestConnectProvider(t *testing.T) {
	p := newIDP(t, people.Settings{}, nil)
	ctx := t.Context()
	in, token := p.w.operatorPerson("a@example.com")
	_, _, err := p.signIn()
	p.w.want(err, people.ErrEmailTaken)
	ceremony, state := p.begin(&in)
	connected, none, err := p.w.FinishProvider(ctx, client(1), ceremony, state, "code")
	p.w.ok(err)
	if none != "" || connected.Person.ID != in.Person.ID || connected.Session.ID != in.Session.ID || !connected.Person.HasProvider {
		t.Errorf("connected %+v with the token %q", connected, none)
	}
	again, _, err := p.signIn()
	p.w.ok(err)
	if again.Person.ID != in.Person.ID {
		t.Errorf("signed in as %+v", again.Person)
	}
	other, _ := p.w.operatorPerson("b@example.com")
	ceremony, state = p.begin(&other)
	_, _, err = p.w.FinishProvider(ctx, client(1), ceremony, state, "code")
	p.w.want(err, people.ErrProvider) // the user is connected with another person already
	p.w.ok(p.w.DisconnectProvider(ctx, in))
	_, _, err = p.signIn()
	p.w.want(err, people.ErrEmailTaken)
	ceremony, state = p.begin(&in)
	p.w.ok(p.w.SignOut(ctx, client(1), token))
	_, _, err = p.w.FinishProvider(ctx, client(1), ceremony, state, "code")
	p.w.want(err, people.ErrSession)
	p.w.advance(people.FreshTime + time.Second)
	_, _, err = p.w.BeginProvider(ctx, client(1), &other)
	p.w.want(err, people.ErrStale)
}

// TestProviderAway checks that sign-in by the provider is refused while the provider
// cannot be reached, and works again later. Malformed settings are refused.
func TestProviderAway(t *testing.T) {
	p := newIDP(t, people.Settings{}, nil)
	handler := p.server.Config.Handler
	p.server.Config.Handler = http.NotFoundHandler()
	for range 2 {
		_, _, err := p.w.BeginProvider(t.Context(), client(1), nil)
		p.w.want(err, people.ErrNoProvider)
	}
	p.server.Config.Handler = handler
	p.w.advance(time.Minute)
	p.begin(nil)
	for _, c := range []people.Provider{
		{Issuer: "http://example.com", ClientID: "x", Callback: callback}, {Issuer: "https://example.com", Callback: callback},
		{Issuer: "https://example.com", ClientID: "x", Callback: "https://evil.example/"},
		{Issuer: "https://example.com", ClientID: "x", Callback: callback, Accounts: []people.ProviderAccount{{Account: "acme", Role: people.Owner}}},
	} {
		if err := p.w.Configure(people.Settings{Origin: origin, Provider: &c}); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	p.w.ok(p.w.Configure(people.Settings{Origin: origin}))
	_, _, err := p.w.BeginProvider(t.Context(), client(1), nil)
	p.w.want(err, people.ErrNoProvider)
}
