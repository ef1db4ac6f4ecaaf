package integration

import (
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// ageTokens sets the times at which tokens were used back, as if that time had passed.
func (a *issuers) ageTokens(t *testing.T, by time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(a.Data(), "farebox.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec("UPDATE oauth_token SET used_at = used_at - ? WHERE used_at > 0", by.Microseconds())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d tokens were used, %v", n, err)
	}
}

// TestOAuthStolenRefresh checks that a refresh token that comes again a minute after its
// use ends the grant: one of the two senders is a thief, and nobody can say which. All
// tokens of the grant are dead after a restart, too.
func TestOAuthStolenRefresh(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	c := register(t, a.weather)
	stolen := c.tokens(a.key)
	bystander := c.tokens(a.key)
	next := c.refresh(stolen.Refresh)
	last := c.refresh(next.Refresh)
	if last.Status != 200 {
		t.Fatalf("%d %s", last.Status, last.Error)
	}
	a.ageTokens(t, oauth.ReuseTime+time.Second)
	if r := c.refresh(stolen.Refresh); r.Status != 400 || r.Error != "invalid_grant" || r.Access != "" {
		t.Errorf("the stolen token gets %d %s", r.Status, r.Error)
	}
	check := func() {
		t.Helper()
		for _, token := range []string{stolen.Access, next.Access, last.Access} {
			if status := c.statusAt(a.endpoint("weather"), token); status != 401 {
				t.Errorf("an access token of the grant gets %d", status)
			}
		}
		for _, token := range []string{stolen.Refresh, next.Refresh, last.Refresh} {
			if r := c.refresh(token); r.Status != 400 || r.Error != "invalid_grant" {
				t.Errorf("a refresh token of the grant gets %d %s", r.Status, r.Error)
			}
		}
		if status := c.statusAt(a.endpoint("weather"), bystander.Access); status != 200 {
			t.Errorf("the token of another grant gets %d", status)
		}
	}
	check()
	a.Kill()
	a.Start(t)
	check()
	a.VerifyLedger(t)
}

// TestOAuthRegistrationFlood checks that a network that registers client after client is
// refused with 429 and a time to wait, and that known clients do not notice.
func TestOAuthRegistrationFlood(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	c := register(t, a.weather)
	made, refused := 0, 0
	for range 100 {
		resp, text := c.send("POST", a.maps+"/register", "application/json", `{"redirect_uris":["http://127.0.0.1/"]}`)
		switch resp.StatusCode {
		case http.StatusCreated:
			made++
		case http.StatusTooManyRequests:
			refused++
			if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || wait < 1 || !strings.Contains(text, `"error"`) {
				t.Errorf("Retry-After %q: %s", resp.Header.Get("Retry-After"), text)
			}
		default:
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
	}
	if made < 30 || refused == 0 {
		t.Errorf("%d were registered and %d refused", made, refused)
	}
	if status := c.statusAt(a.endpoint("weather"), c.tokens(a.key).Access); status != 200 {
		t.Errorf("a known client's token gets %d", status)
	}
}

// TestOAuthGuesses checks that the consent page and the page for devices stop a network
// that guesses agent keys or the codes of devices.
func TestOAuthGuesses(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	b, c := newBrowser(t), register(t, a.weather)
	stopped := func(what string, guess func(i int) page) {
		t.Helper()
		for i := range 5000 {
			switch p := guess(i); {
			case strings.Contains(p.text, "Too many"):
				return
			case p.status != http.StatusUnprocessableEntity:
				t.Fatalf("%s %d: %d\n%s", what, i, p.status, p.text)
			}
		}
		t.Errorf("nobody stopped the guesses of %s", what)
	}
	device := b.open(a.weather + "/device")
	stopped("codes", func(i int) page {
		return b.submit(device, map[string]string{"user_code": fmt.Sprintf("BCDF-GH%c%c", "BCDFGHJK"[i/8%8], "BCDFGHJK"[i%8])})
	})
	ask := b.open(c.authorization(nil))
	stopped("keys", func(int) page {
		return b.submit(ask, map[string]string{"step": "key", "key": keys.Mint(keys.Agent, keys.Live)})
	})
}

// documentHost serves metadata documents of clients by HTTPS, also bad ones, and counts
// the requests by path.
type documentHost struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int
}

func (h *documentHost) count(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[path]
}

func serveDocuments(t *testing.T) *documentHost {
	t.Helper()
	h := &documentHost{seen: map[string]int{}}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.seen[r.URL.Path]++
		h.mu.Unlock()
		document := map[string]any{
			"client_id": h.URL + r.URL.Path, "client_name": "Published", "redirect_uris": []string{"https://agent.example.com/callback", "http://127.0.0.1/callback"},
			"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token", "of the future"}, "of the future": true,
		}
		kind := "application/json"
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, h.URL+"/target", http.StatusFound)
			return
		case "/missing":
			http.NotFound(w, r)
			return
		case "/other":
			document["client_id"] = h.URL + "/good"
		case "/large":
			document["client_uri"] = strings.Repeat("x", 1<<20)
		case "/secret":
			document["client_secret"] = "everybody can read it"
		case "/script":
			document["redirect_uris"] = []string{"javascript:alert(1)"}
		case "/html":
			kind = "text/html"
		}
		body, err := json.Marshal(document)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // fails only if the gateway has read enough
	}))
	t.Cleanup(h.Close)
	return h
}

// TestOAuthDocuments checks that a client can connect with the URL of a document as its
// id. The document may have members and grants that nobody knows yet. Documents that are for
// another id, too large, not there, or that redirect are refused, and redirects are not
// followed.
func TestOAuthDocuments(t *testing.T) {
	t.Parallel()
	h := serveDocuments(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	g := binaries.StartGateway(t, twoServersSite(binaries.StartWeather(t, "-stateless"), "private_documents"), "SSL_CERT_FILE="+roots)
	g.NewAgent(t, "agent", "5.00")
	key := g.NewKey(t, "agent", "--scope", "cities.read").Secret
	base := "http://localhost:" + g.Port
	c := register(t, base+"/oauth/weather")
	c.id, c.redirect = h.URL+"/good", "http://127.0.0.1:41/callback"
	tokens := c.tokens(key)
	if status := c.statusAt(base+"/weather/mcp", tokens.Access); status != 200 {
		t.Errorf("the token gets %d", status)
	}
	if r := c.refresh(tokens.Refresh); r.Status != 200 {
		t.Errorf("refresh: %d %s", r.Status, r.Error)
	}
	p := newBrowser(t).open(c.authorization(map[string]string{"redirect_uri": "https://agent.example.com/callback"}))
	host, _ := url.Parse(h.URL)
	if p.status != 200 || !strings.Contains(p.text, "agent.example.com") || !strings.Contains(p.text, "<dd>"+host.Hostname()) {
		t.Errorf("the page does not say where the client is published and where the browser goes: %d\n%s", p.status, p.text)
	}
	for _, path := range []string{"/redirect", "/missing", "/other", "/large", "/secret", "/script"} {
		p := newBrowser(t).open(c.authorization(map[string]string{"client_id": h.URL + path}))
		if p.status < 400 || p.location != nil || strings.Contains(p.text, `name="request"`) {
			t.Errorf("%s: %d %v", path, p.status, p.location)
		}
	}
	if n := h.count("/target"); n != 0 {
		t.Errorf("the gateway has followed the redirect %d times", n)
	}
	if n := h.count("/good"); n > 2 {
		t.Errorf("the good document was fetched %d times", n)
	}
}
