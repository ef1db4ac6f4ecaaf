package login

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/tokens"
	"github.com/fareboxhq/farebox/internal/clock"
)

// authority is an MCP server and its authorization server. A test can change the
// answers of both. It gives each refresh token once, and ends the grant if one is used twice.
type authority struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	resource string // in the metadata; "" means that of the server
	meta     map[string]any
	codes    map[string]url.Values // the authorization request, by code
	good     map[string]bool       // refresh tokens
	used     map[string]bool
	forms    []url.Values // token requests
	revoked  []string
	issued   int
	status   int    // the status of the token endpoint, if not 200
	answer   string // the body for that status
	granted  string // the scope in responses
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, codes: map[string]url.Values{}, good: map[string]bool{}, used: map[string]bool{}, meta: map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", a.challenge())
		w.WriteHeader(http.StatusUnauthorized)
	})
	mux.HandleFunc("/.well-known/oauth-protected-resource/mcp", a.serveResource)
	mux.HandleFunc("/.well-known/oauth-authorization-server/as", a.serveMetadata)
	mux.HandleFunc("/register", func(w http.ResponseWriter, r *http.Request) {
		var got map[string]any
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if got["token_endpoint_auth_method"] != "none" || got["application_type"] != "native" {
			t.Errorf("the registration is %v", got)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"client_id":"client-1","token_endpoint_auth_method":"none"}`)
	})
	mux.HandleFunc("/token", a.serveToken)
	mux.HandleFunc("/revoke", func(_ http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.revoked = append(a.revoked, r.FormValue("token"))
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func (a *authority) challenge() string {
	return `Bearer realm="x", scope="read", resource_metadata="` + a.url + `/.well-known/oauth-protected-resource/mcp"`
}

func (a *authority) serveResource(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resource := a.resource
	if resource == "" {
		resource = a.url + "/mcp"
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"resource":%q,"authorization_servers":["%s/as"],"scopes_supported":["all"]}`, resource, a.url)
}

func (a *authority) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := map[string]any{
		"issuer": a.url + "/as", "authorization_endpoint": a.url + "/authorize", "token_endpoint": a.url + "/token",
		"registration_endpoint": a.url + "/register", "revocation_endpoint": a.url + "/revoke", "response_types_supported": []string{"code"},
		"code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true,
	}
	for name, value := range a.meta {
		m[name] = value
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m)
}

func (a *authority) serveToken(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := r.ParseForm(); err != nil {
		a.t.Error(err)
	}
	a.forms = append(a.forms, r.PostForm)
	w.Header().Set("Content-Type", "application/json")
	if a.status != 0 {
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.answer)
		return
	}
	if !a.isGood(r.PostForm) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	a.issued++
	refresh := fmt.Sprintf("refresh-%d", a.issued)
	a.good[refresh] = true
	fmt.Fprintf(w, `{"access_token":"access-%d","token_type":"bearer","expires_in":3600,"refresh_token":%q,"scope":%q}`, a.issued, refresh, a.granted)
}

// isGood checks a token request, and uses its code or its refresh token up.
func (a *authority) isGood(form url.Values) bool {
	if form.Get("client_id") != "client-1" || form.Get("resource") == "" {
		a.t.Errorf("token request %v", form)
	}
	if form.Get("grant_type") == "refresh_token" {
		token := form.Get("refresh_token")
		if a.used[token] {
			a.good = map[string]bool{}
		}
		ok := a.good[token]
		delete(a.good, token)
		a.used[token] = true
		return ok
	}
	asked := a.codes[form.Get("code")]
	delete(a.codes, form.Get("code"))
	hash := sha256.Sum256([]byte(form.Get("code_verifier")))
	return asked != nil && asked.Get("code_challenge") == base64.RawURLEncoding.EncodeToString(hash[:]) && asked.Get("redirect_uri") == form.Get("redirect_uri")
}

func (a *authority) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.good = map[string]bool{}
}

// person answers a page as a person in a browser does. change may spoil the answer.
func (a *authority) person(t *testing.T, page string, change func(url.Values)) {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Error(err)
		return
	}
	asked := u.Query()
	a.mu.Lock()
	code := fmt.Sprintf("code-%d", len(a.forms))
	a.codes[code] = asked
	a.mu.Unlock()
	answer := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {a.url + "/as"}}
	if change != nil {
		change(answer)
	}
	resp, err := http.Get(asked.Get("redirect_uri") + "?" + answer.Encode())
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close()
}

// log has the notes for people.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, format+"\n", args...)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// rig is a source with a person. The person answers each page, and change may spoil the
// answer.
type rig struct {
	*Source
	a     *authority
	notes log
	pages []string
	now   time.Time
}

func newRig(t *testing.T, a *authority, dir string, change func(url.Values)) *rig {
	t.Helper()
	server, err := url.Parse(a.url + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{a: a, now: clock.Now()}
	r.Source = New(Options{
		Server: server, Store: tokens.New(dir, nil), Say: r.notes.say, Patience: time.Minute,
		Now: func() time.Time { return r.now },
		Open: func(page string) error {
			r.pages = append(r.pages, page)
			go a.person(t, page, change)
			return nil
		},
	})
	t.Cleanup(func() {
		for _, secret := range []string{"access-", "refresh-", "code-"} {
			if strings.Contains(r.notes.String(), secret) {
				t.Errorf("a note has a secret: %s", r.notes.String())
			}
		}
	})
	return r
}

func (r *rig) mustHave(t *testing.T, want string) {
	t.Helper()
	got, _, err := r.Current(t.Context())
	if err != nil || got != want {
		t.Errorf("the token is %q, want %q; %v", got, want, err)
	}
}

func (r *rig) signIn(t *testing.T, refused string) {
	t.Helper()
	if err := r.SignIn(t.Context(), refused, []string{r.a.challenge()}); err != nil {
		t.Fatal(err)
	}
}
