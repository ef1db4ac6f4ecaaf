package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
)

const registering = `{"redirect_uris":["http://localhost:1/callback"],"token_endpoint_auth_method":"none"}`

// register asks a site to register a client. The last argument is the handler for the
// rest of the site.
func register(t *testing.T, app *App, url, contentType string, next caddyhttp.HandlerFunc) (*httptest.ResponseRecorder, error) {
	t.Helper()
	app.settings = &admin.Settings{Secrets: &keys.DefaultFormat}
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(registering))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	return w, (&Metadata{app: app}).ServeHTTP(w, r, next)
}

// toldToSend checks that a response is an error that clients can read (RFC 7591,
// 3.2.2). Its description names the header and a contact, in the allowed characters
// (RFC 6749, 5.2).
func toldToSend(t *testing.T, w *httptest.ResponseRecorder, header string) {
	t.Helper()
	var refused struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil || w.Code != http.StatusBadRequest || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s: %v", w.Code, w.Header(), w.Body, err)
	}
	allowed := regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`)
	if refused.Code != "access_denied" || !allowed.MatchString(refused.Description) || !strings.Contains(refused.Description, header) || !strings.Contains(refused.Description, "whoever runs this gateway") {
		t.Errorf("%+v", refused)
	}
}

// TestRegistrationIsRefusedInPlaceOfNothing checks that a client that wants to register
// is advised to send a key, unless the site has its own answer. If the operator has an
// authorization server, a page or an error at that path, the client gets the answer
// from there.
func TestRegistrationIsRefusedInPlaceOfNothing(t *testing.T) {
	const header = "Authorization: Bearer sk_live_..."
	fails := func(status int) caddyhttp.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(status, nil) }
	}
	for name, next := range map[string]caddyhttp.HandlerFunc{
		"nothing":         func(http.ResponseWriter, *http.Request) error { return nil },
		"error 404":       fails(http.StatusNotFound),
		"a file server's": fails(http.StatusMethodNotAllowed),
	} {
		t.Run(name, func(t *testing.T) {
			for _, url := range []string{"https://a.example/register", "https://a.example/weather/register"} {
				w, err := register(t, new(App), url, "application/json; charset=utf-8", next)
				if err != nil {
					t.Fatal(err)
				}
				toldToSend(t, w, header)
			}
		})
	}
	for name, c := range map[string]struct {
		url, contentType string
		next             caddyhttp.HandlerFunc
		code             int
	}{
		"an authorization server": {"https://a.example/register", "application/json", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusCreated)
			return nil
		}, http.StatusCreated},
		"one that has no registration": {"https://a.example/register", "application/json", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusNotFound)
			return nil
		}, http.StatusNotFound},
		"one that is down":   {"https://a.example/register", "application/json", fails(http.StatusBadGateway), http.StatusBadGateway},
		"a page's form":      {"https://a.example/register", "application/x-www-form-urlencoded", fails(http.StatusNotFound), http.StatusNotFound},
		"another path":       {"https://a.example/registers", "application/json", fails(http.StatusNotFound), http.StatusNotFound},
		"a host with oauth":  {"https://b.example/register", "application/json", fails(http.StatusNotFound), http.StatusNotFound},
		"no type of content": {"https://a.example/register", "", fails(http.StatusNotFound), http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			app := new(App)
			if err := app.register(withOAuth(t, "weather", "https://b.example/mcp", nil)); err != nil {
				t.Fatal(err)
			}
			w, err := register(t, app, c.url, c.contentType, c.next)
			code := w.Code
			if handled, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
				code = handled.StatusCode
			}
			if code != c.code || w.Body.Len() > 0 {
				t.Errorf("%d %s, %v; want %d", code, w.Body, err, c.code)
			}
		})
	}
}
