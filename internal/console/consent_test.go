package console

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/oauth/server"
)

// issuer is the authorization server of the MCP server "weather", with one client.
type issuer struct {
	*server.Server
	w      *world
	sealer *gate.Sealer
}

const (
	issuerURL = "https://gateway.example.com/oauth/weather"
	appURI    = "https://app.example/callback"
	verifier  = "0123456789012345678901234567890123456789abc"
)

// OAuth returns the service for grants.
func (i *issuer) OAuth() *oauth.Service { return i.w.grants }

// Sealer returns the sealer of the test.
func (i *issuer) Sealer() server.Sealer { return i.sealer }

// Payer finds no keys.
func (*issuer) Payer(context.Context, netip.Addr, string) (*keys.Key, error) {
	return nil, keys.ErrUnknown
}

// Account returns the id and the name of an account.
func (i *issuer) Account(ctx context.Context, ref string) (id, name string, err error) {
	a, err := i.w.admin.Account(ctx, ref)
	return a.ID, a.Name, err
}

// newIssuer makes the authorization server of a world and connects the console with it.
// Owners can give the scope "mail.read" only.
func newIssuer(w *world) *issuer {
	w.Helper()
	var err error
	if w.scopes, err = keys.NewCatalogue([]keys.Scope{{Name: "mail.read", Description: "read your mail"}, {Name: "mail.send", Description: "send mail"}}, []string{"mail.read"}); err != nil {
		w.Fatal(err)
	}
	i := &issuer{w: w, sealer: gate.NewSealer(w.now, gate.SealKey{Key: [gate.SealKeySize]byte{1}})}
	clients, err := client.New(client.Options{Fetch: fetch.New(fetch.Options{}), NoDocuments: true, NoRegistration: true, Static: []client.Declared{{ID: "app", Name: "The <b> app", RedirectURIs: []string{appURI}}}})
	if err != nil {
		w.Fatal(err)
	}
	at, err := url.Parse(issuerURL)
	if err != nil {
		w.Fatal(err)
	}
	i.Server, err = server.New(server.Options{
		Issuers: []*server.Issuer{{URL: at, Server: "weather", Title: "City weather", Resource: "https://gateway.example.com/mcp", Scopes: []server.Scope{{Name: "mail.read", Description: "read your mail"}, {Name: "mail.send", Description: "send mail"}}}},
		Open:    func(context.Context) (server.Backend, func(), error) { return i, func() {}, nil },
		Clients: func() (*client.Registry, error) { return clients, nil }, Scopes: w.scopes, Lives: oauth.Lives{Access: time.Hour, Refresh: time.Hour},
		Console: base + "/connect", Now: w.now, Currency: "USD",
	})
	if err != nil {
		w.Fatal(err)
	}
	w.connector = i
	return i
}

var consoleLink = regexp.MustCompile(`href="` + regexp.QuoteMeta(base) + `/connect\?request=([^"&]+)&amp;server=weather"`)

// ask has the client ask for scopes. It returns the sealed request in the link to the
// console.
func (i *issuer) ask(scope string) (sealed string) {
	i.w.Helper()
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"app"}, "redirect_uri": {appURI}, "response_type": {"code"}, "state": {"s&1"}, "scope": {scope},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	page := httptest.NewRecorder()
	i.Serve(page, httptest.NewRequestWithContext(i.w.Context(), http.MethodGet, issuerURL+"/authorize?"+query.Encode(), nil), netip.MustParseAddr("192.0.2.7"))
	found := consoleLink.FindStringSubmatch(page.Body.String())
	if found == nil {
		i.w.Fatalf("there is no link to the console: %d %s", page.Code, page.Body)
	}
	return found[1]
}

// TestConsent checks that an owner connects an app at the expense of an own account: the
// page shows the app and the scopes that the owner can give, and the code in the redirect
// gets a token with the chosen scopes.
func TestConsent(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	sealed := newIssuer(w.world).ask("mail.read mail.send")
	resp, body := owner.get("/connect?server=weather&request=" + sealed)
	for _, want := range []string{"The &lt;b&gt; app", "nobody has verified it", "app.example", "City weather", "read your mail", ">alice</option>"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q: %s", want, body)
		}
	}
	if strings.Contains(body, "before") {
		t.Errorf("the app was not allowed before: %s", body)
	}
	if strings.Contains(body, "send mail") || strings.Contains(body, ">bob<") {
		t.Errorf("the owner can give too much: %s", body)
	}
	if policy := resp.Header.Get("Content-Security-Policy"); strings.Contains(policy, "form-action") || !strings.Contains(policy, "frame-ancestors 'none'") || resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the headers are %v", resp.Header)
	}
	form := url.Values{"server": {"weather"}, "request": {sealed}, "step": {"allow"}, "account": {w.alice.ID}, "scope.mail.read": {"1"}, "scope.mail.send": {"1"}, "cap": {"2.50"}, "ends": {"24h"}}
	resp, body = owner.post("/connect", form)
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(back.String(), appURI+"?") || back.Query().Get("state") != "s&1" || back.Query().Get("iss") != issuerURL {
		t.Fatalf("%s to %q, %v: %s", resp.Status, back, err, body)
	}
	tokens, err := w.grants.Exchange(t.Context(), oauth.Client{ID: "app", Server: "weather"}, back.Query().Get("code"), appURI, verifier, oauth.Lives{Access: time.Hour})
	if err != nil || len(tokens.Scopes) != 1 || tokens.Scopes[0] != "mail.read" {
		t.Fatalf("the tokens are for %q, %v", tokens.Scopes, err)
	}
	list, _, err := w.grants.Grants(t.Context(), oauth.GrantQuery{Person: owner.person.ID})
	if err != nil || len(list) != 1 || list[0].Account != w.alice.ID || list[0].Key != "" || list[0].Limits == nil || list[0].Limits.Month != 2_500_000 || list[0].ExpiresAt.Sub(list[0].CreatedAt) > 25*time.Hour {
		t.Errorf("the grants are %+v, %v", list, err)
	}

	// The decision is proposed again to the same person, and to nobody else.
	if _, body = owner.get("/connect?server=weather&request=" + sealed); !strings.Contains(body, "You have allowed this app before") || !strings.Contains(body, `value="2.50"`) || !strings.Contains(body, `value="`+w.alice.ID+`" selected`) {
		t.Errorf("the decision is forgotten: %s", body)
	}
	if _, body = visitors["operator"].get("/connect?server=weather&request=" + sealed); strings.Contains(body, "before") || strings.Contains(body, "2.50") {
		t.Errorf("an owner's decision is proposed to an operator: %s", body)
	}

	// An operator gives all scopes, at the expense of any account.
	form = url.Values{"server": {"weather"}, "request": {sealed}, "step": {"allow"}, "account": {"bob"}, "scope.mail.send": {"1"}}
	if resp, body := visitors["operator"].post("/connect", form); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("an operator: %s %s", resp.Status, body)
	}
	list, _, err = w.grants.Grants(t.Context(), oauth.GrantQuery{Person: w.person.ID})
	if err != nil || len(list) != 1 || list[0].Account != w.bob.ID || len(list[0].Scopes) != 1 || list[0].Scopes[0] != "mail.send" {
		t.Errorf("the operator's grants are %+v, %v", list, err)
	}
}

// TestNoConsent checks that nobody connects an app at the expense of an account that the
// person does not own, and that requests which are forged, old or for another server are
// refused. A person that cancels is sent back with an error.
func TestNoConsent(t *testing.T) {
	w, visitors := newWalk(t)
	owner, viewer := visitors["owner"], visitors["viewer"]
	sealed := newIssuer(w.world).ask("")
	form := func(change string, value ...string) url.Values {
		f := url.Values{"server": {"weather"}, "request": {sealed}, "step": {"allow"}, "account": {w.alice.ID}}
		f[change] = value
		return f
	}
	if _, body := viewer.get("/connect?server=weather&request=" + sealed); strings.Contains(body, `value="allow"`) || !strings.Contains(body, "You own no account") {
		t.Errorf("a viewer sees %s", body)
	}
	text, tag, _ := strings.Cut(sealed, ".")
	for name, f := range map[string]url.Values{
		"another account": form("account", w.bob.ID), "an account by name": form("account", "bob"), "no account": form("account", ""), "another server": form("server", "mail"),
		"a forged request": form("request", text[:len(text)-4]+"AAAA."+tag), "no request": form("request"), "a negative cap": form("cap", "-1"), "a strange end": form("ends", "soon"),
	} {
		if resp, body := owner.post("/connect", f); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	if resp, _ := viewer.post("/connect", form("account", w.alice.ID)); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a viewer: %s", resp.Status)
	}
	resp, _ := owner.post("/connect", form("step", "deny"))
	if at := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(at, appURI+"?error=access_denied") {
		t.Errorf("after a refusal: %s to %s", resp.Status, at)
	}
	w.ahead.Add(int64(16 * time.Minute))
	if resp, body := owner.post("/connect", form("step", "allow")); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "too old") {
		t.Errorf("an old request: %s %s", resp.Status, body)
	}
	for _, person := range []string{owner.person.ID, viewer.person.ID} {
		if list, _, err := w.grants.Grants(t.Context(), oauth.GrantQuery{Person: person}); err != nil || len(list) != 0 {
			t.Errorf("there are grants: %+v, %v", list, err)
		}
	}
}
