package console

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// TestRegister checks that a person with the operator's code gets an account with the
// starting credit. Without the code, or while registration is closed, nobody can
// register.
func TestRegister(t *testing.T) {
	w := newWorld(t)
	if resp, _ := w.browser().get("/register"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("where registration is closed: %s", resp.Status)
	}
	if _, body := w.browser().get("/signin"); strings.Contains(body, "/register") {
		t.Error("the sign-in offers a registration that is closed")
	}
	w.configure(people.Settings{Registration: &people.Registration{Code: "open sesame, and do it 1", Domains: []string{"example.com"}, Credit: ledger.Unit / 2}})
	if _, body := w.browser().get("/signin"); !strings.Contains(body, "/register") {
		t.Error("the sign-in does not offer the registration")
	}
	for name, form := range map[string]url.Values{
		"a wrong code":   {"code": {"open sesame, and do it 2"}, "email": {"carol@example.com"}},
		"another domain": {"code": {"open sesame, and do it 1"}, "email": {"carol@example.org"}},
		"no address":     {"code": {"open sesame, and do it 1"}, "email": {""}},
	} {
		if resp, _ := w.browser().post("/register", form); resp.StatusCode < 400 || resp.StatusCode > 499 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		w.ahead.Add(int64(time.Hour)) // past the delay after failed attempts
	}
	b := w.browser()
	resp, body := b.post("/register", url.Values{"code": {"open sesame, and do it 1"}, "email": {"carol@example.com"}})
	next, ok := strings.CutPrefix(resp.Header.Get("Location"), "/console/invite/")
	if resp.StatusCode != http.StatusSeeOther || !ok {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	for _, path := range []string{"/console/register", "/console/invite/" + next, "/console//invite/" + next, "/console/invite/" + next + "/passkey/begin"} {
		if !w.console.Secret(path) {
			t.Errorf("the log may have %s, with the link of the invitation", path)
		}
	}
	if w.console.Secret("/console/signin") || w.console.Secret("/console/people") {
		t.Error("requests without a secret are not logged")
	}
	if resp, body := b.post("/invite/"+next, url.Values{"password": {password}, "name": {"Carol"}}); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	carol, err := w.people.Person(t.Context(), "carol@example.com")
	if err != nil || len(carol.Accounts) != 1 || carol.Accounts[0].Role != people.Owner || carol.Operator {
		t.Fatalf("%+v, %v", carol, err)
	}
	if a, err := w.admin.Account(t.Context(), carol.Accounts[0].Account); err != nil || a.Live.Posted != ledger.Unit/2 {
		t.Errorf("%+v, %v", a, err)
	}
	if resp, _ := b.get("/accounts/" + carol.Accounts[0].Account + "/keys/new"); resp.StatusCode != http.StatusOK {
		t.Errorf("the page for a key: %s", resp.Status)
	}
}

// startProvider starts an OpenID provider with one user. The test must store the nonce
// for the next token in *nonce.
func startProvider(t *testing.T, email string) (issuer string, nonce *string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	nonce = new(string)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	send := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		send(w, map[string]any{
			"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token",
			"jwks_uri": server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		send(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		now := clock.Now()
		payload, err := json.Marshal(map[string]any{
			"iss": server.URL, "aud": "farebox", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nonce": *nonce,
			"sub": "user-1", "email": email, "email_verified": true, "name": "Dora",
		})
		if err != nil {
			t.Error(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Error(err)
			return
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Error(err)
		}
		send(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": text})
	})
	return server.URL, nonce
}

// TestProvider checks that a user of the OpenID provider is redirected to the provider
// and back, and becomes a member of the account that the config names. The redirect
// back must not sign in another browser.
func TestProvider(t *testing.T) {
	w := newWorld(t)
	alice, _, _ := w.account("alice")
	if resp, _ := w.browser().get("/signin/provider"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a provider: %s", resp.Status)
	}
	issuer, nonce := startProvider(t, "dora@example.com")
	w.configure(people.Settings{Provider: &people.Provider{
		Issuer: issuer, ClientID: "farebox", Name: "Example SSO", Callback: base + "/signin/callback",
		Accounts: []people.ProviderAccount{{Domain: "example.com", Account: alice.ID, Role: people.Viewer}},
	}})
	b := w.browser()
	if _, body := b.get("/signin"); !strings.Contains(body, "Sign in with Example SSO") {
		t.Error("the sign-in does not offer the provider")
	}
	resp, _ := b.get("/signin/provider")
	to, err := url.Parse(resp.Header.Get("Location"))
	if resp.StatusCode != http.StatusSeeOther || err != nil || !strings.HasPrefix(to.String(), issuer+"/authorize?") {
		t.Fatalf("%s to %s, %v", resp.Status, to, err)
	}
	*nonce = to.Query().Get("nonce")
	back := "/signin/callback?" + url.Values{"state": {to.Query().Get("state")}, "code": {"code"}}.Encode()
	thief := w.browser()
	if resp, _ := thief.get(back); resp.StatusCode == http.StatusSeeOther || thief.cookies[secureCookie] != "" {
		t.Errorf("another browser on the way back: %s", resp.Status)
	}
	resp, body := b.get(back)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/console/" || b.cookies[secureCookie] == "" {
		t.Fatalf("%s to %s\n%s", resp.Status, resp.Header.Get("Location"), body)
	}
	if resp, _ := b.get("/accounts/" + alice.ID); resp.StatusCode != http.StatusOK {
		t.Errorf("the account: %s", resp.Status)
	}
	if resp, _ := b.get("/accounts/" + alice.ID + "/keys/new"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer's page for a key: %s", resp.Status)
	}
	if resp, _ := b.get("/signin/callback?error=access_denied"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a user that declines: %s", resp.Status)
	}
}

// TestProviderIsConnectedFromHere checks that another site cannot begin to connect the
// OpenID provider with the person that is signed in. That site could have signed the
// browser in at the provider as a user of its own.
func TestProviderIsConnectedFromHere(t *testing.T) {
	w := newWorld(t)
	issuer, _ := startProvider(t, "dora@example.com")
	w.configure(people.Settings{Provider: &people.Provider{Issuer: issuer, ClientID: "farebox", Name: "Example SSO", Callback: base + "/signin/callback"}})
	b := w.person("op@example.com", people.NewInvitation{Operator: true})
	for name, test := range map[string]struct {
		header, value string
		begins        bool
	}{
		"a link of the profile":   {"Sec-Fetch-Site", "same-origin", true},
		"a typed address":         {"Sec-Fetch-Site", "none", true},
		"an older browser":        {"Referer", base + "/profile", true},
		"another site":            {"Sec-Fetch-Site", "cross-site", false},
		"a neighbour":             {"Sec-Fetch-Site", "same-site", false},
		"an older browser's site": {"Referer", "https://evil.example/console/", false},
		"neither header":          {"X-Other", "x", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, base+"/signin/provider", nil)
		r.Header.Set(test.header, test.value)
		resp, _ := b.send(r)
		to := resp.Header.Get("Location")
		if begins := strings.HasPrefix(to, issuer+"/authorize?"); begins != test.begins || !begins && to != "/console/profile" {
			t.Errorf("%s: %s to %s", name, resp.Status, to)
		}
	}
}

// TestJoin checks that a person that is signed in is asked to join only if it can
// accept the invitation. For any other invitation the page shows the form for a new
// person.
func TestJoin(t *testing.T) {
	w := newWorld(t)
	alice, _, _ := w.account("alice")
	b := w.person("zoe@example.com", people.NewInvitation{Account: alice.ID})
	for name, test := range map[string]struct {
		n     people.NewInvitation
		joins bool
	}{
		"for anybody":          {people.NewInvitation{Operator: true}, true},
		"for the address":      {people.NewInvitation{Operator: true, Email: "zoe@example.com"}, true},
		"for another address":  {people.NewInvitation{Operator: true, Email: "other@example.com"}, false},
		"for a lost password":  {people.NewInvitation{Person: b.person.ID}, false},
		"for another's access": {people.NewInvitation{Account: alice.ID, Email: "third@example.com"}, false},
	} {
		_, secret, err := w.people.Invite(t.Context(), admin.Actor{Name: "offline"}, test.n)
		if err != nil {
			t.Fatal(err)
		}
		resp, body := b.get("/invite/" + secret)
		joins := strings.Contains(body, "Join as zoe@example.com")
		if resp.StatusCode != http.StatusOK || joins != test.joins || strings.Contains(body, `name="password"`) == joins {
			t.Errorf("an invitation %s: %s, joins is %t", name, resp.Status, joins)
		}
	}
}
