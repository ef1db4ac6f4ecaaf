package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// withOAuth returns a compiled handler of a server. The server has oauth with the
// public URL url, or no oauth if url is "".
func withOAuth(t *testing.T, server, url string, change func(*Handler)) *Handler {
	t.Helper()
	declared, err := keys.NewCatalogue([]keys.Scope{{Name: "read"}, {Name: "write"}, {Name: "basic"}, {Name: "other"}, {Name: "offline_access"}}, []string{"basic", "offline_access"})
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{Server: server, Provider: "acme", logger: slog.New(slog.DiscardHandler)}
	if url != "" {
		h.OAuth = &resource.OAuth{Resource: url, AuthorizationServers: []string{"https://auth.example.com"}}
	}
	if change != nil {
		change(h)
	}
	if err := h.compileRights(declared); err != nil {
		t.Fatal(err)
	}
	if err := h.compileOAuth(declared); err != nil {
		t.Fatal(err)
	}
	h.compileSite(&keys.DefaultFormat)
	return h
}

// refused returns the response by which h refuses a request. original is the request as
// it arrived, before it was rewritten for h.
func refused(t *testing.T, h *Handler, refusal *gate.Refusal, original http.Request) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", "/rewritten/", nil).WithContext(context.WithValue(t.Context(), caddyhttp.OriginalRequestCtxKey, original))
	w := httptest.NewRecorder()
	exchange.New(&h.site, &h.host, nil, w, r).Refuse(w, refusal)
	return w
}

// fetchMetadata sends a request to the metadata handler of an app. As in Caddy, an
// error of the handler becomes the status. The second result reports whether the
// request went on to the next handler.
func fetchMetadata(app *App, method, url string) (w *httptest.ResponseRecorder, passed bool) {
	w = httptest.NewRecorder()
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		passed = true
		return nil
	})
	err := (&Metadata{app: app}).ServeHTTP(w, httptest.NewRequest(method, url, nil), next)
	if handled, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		w.Code = handled.StatusCode
	}
	return w, passed
}

// TestMetadataIsOfWhoIsAsked checks which metadata document belongs to which URL. The
// resource in a document must be the identifier from which the client derived the
// document's URL, with or without a trailing slash (RFC 9728, 3.3). A resource at the
// host of the request comes first. If no resource is at that host, a resource at
// another host is served, but only if the path fits no other resource. Any other path
// below the well-known path is not found.
func TestMetadataIsOfWhoIsAsked(t *testing.T) {
	const root, next = "https://a.example/.well-known/oauth-protected-resource", "next"
	for name, c := range map[string]struct {
		resources []string // the resource URL of each server; "" for a server without oauth
		want      map[string]string
	}{
		"paths": {[]string{"https://a.example/weather/mcp", "https://a.example/mail/mcp/", ""}, map[string]string{
			root + "/weather/mcp": "https://a.example/weather/mcp", root + "/weather/mcp/": "https://a.example/weather/mcp/",
			root + "/mail/mcp": "https://a.example/mail/mcp", root + "/mail/mcp/": "https://a.example/mail/mcp/",
			root + "/weather/mcp//": "", root + "/weather": "", root + "/weather/mcp/x": "", root + "/WEATHER/mcp": "",
			root: "", root + "/": "",
			root + "s": next, "https://a.example/weather/mcp": next, "https://a.example/.well-known/oauth-authorization-server": next,
		}},
		"root": {[]string{"https://a.example", "https://a.example/mail/mcp"}, map[string]string{
			root: "https://a.example", root + "/": "https://a.example/", root + "//": "",
			root + "/mail/mcp": "https://a.example/mail/mcp", root + "?x=1": "https://a.example",
		}},
		"root with a slash":  {[]string{"https://a.example/"}, map[string]string{root: "https://a.example", root + "/": "https://a.example/"}},
		"the only one":       {[]string{"https://a.example/mcp", "", "https://b.example/b"}, map[string]string{root: "https://a.example/mcp", root + "/": "https://a.example/mcp"}},
		"the only one, of /": {[]string{"https://a.example/mcp/"}, map[string]string{root: "https://a.example/mcp/", root + "/": "https://a.example/mcp/"}},
		"hosts": {[]string{"https://a.example/mcp", "https://b.example/mcp", "https://b.example/b", "http://localhost:8080/mcp"}, map[string]string{
			root + "/mcp": "https://a.example/mcp", "https://b.example/.well-known/oauth-protected-resource/mcp/": "https://b.example/mcp/",
			"https://A.Example:443/.well-known/oauth-protected-resource/mcp":    "https://a.example/mcp",
			"http://localhost:8080/.well-known/oauth-protected-resource/mcp":    "http://localhost:8080/mcp",
			"https://unknown.example/.well-known/oauth-protected-resource/mcp":  "",
			"https://unknown.example/.well-known/oauth-protected-resource/b":    "https://b.example/b",
			"https://unknown.example/.well-known/oauth-protected-resource":      "",
			"https://a.example/.well-known/oauth-protected-resource/b":          "",
			"https://b.example/.well-known/oauth-protected-resource":            "",
			"https://a.example:8443/.well-known/oauth-protected-resource/b":     "https://b.example/b",
			"https://a.example/.well-known/oauth-protected-resource/%6Dcp":      "https://a.example/mcp",
			"https://b.example/.well-known/oauth-protected-resource/mcp/../b":   "",
			"https://b.example/.well-known/oauth-protected-resource/b%3Fx":      "",
			"https://unknown.example/.well-known/oauth-protected-resource/b/":   "https://b.example/b/",
			"https://unknown.example/.well-known/oauth-protected-resource/none": "",
		}},
		"a proxy": {[]string{"https://a.example/mcp"}, map[string]string{
			"http://10.0.0.1:8080/.well-known/oauth-protected-resource": "https://a.example/mcp", "http://10.0.0.1:8080/.well-known/oauth-protected-resource/mcp/": "https://a.example/mcp/",
		}},
		"encoded": {[]string{"https://a.example/caf%C3%A9"}, map[string]string{root + "/caf%C3%A9/": "https://a.example/caf%C3%A9/"}},
		"none":    {[]string{""}, map[string]string{root: "", root + "/mcp": "", "https://a.example/": next}},
	} {
		app := new(App)
		for i, url := range c.resources {
			if err := app.register(withOAuth(t, fmt.Sprintf("server%d", i), url, nil)); err != nil {
				t.Fatal(err)
			}
		}
		for url, want := range c.want {
			w, passed := fetchMetadata(app, "GET", url)
			var got struct {
				Resource string `json:"resource"`
			}
			if w.Code == 200 && !passed {
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case passed != (want == next), want == "" && w.Code != 404, want != "" && w.Code != 200:
				t.Errorf("%s: %s: %d, passed on %t; want %q", name, url, w.Code, passed, want)
			case !passed && got.Resource != want:
				t.Errorf("%s: %s is of %q, want %q", name, url, got.Resource, want)
			}
		}
	}
}

// TestMetadataContents checks that a document has the configured values. By default it
// has the scopes in the server's rules, and never the whole catalogue or
// offline_access.
func TestMetadataContents(t *testing.T) {
	for want, change := range map[string]func(*Handler){
		`{"resource":"https://a.example/mcp","authorization_servers":["https://auth.example.com"],"bearer_methods_supported":["header"]}`: nil,
		`{"resource":"https://a.example/mcp","authorization_servers":["https://auth.example.com"],"scopes_supported":["read","write"],"bearer_methods_supported":["header"]}`: func(h *Handler) {
			h.Require, h.Scopes = []string{"read", keys.ScopeConnect}, []ScopeRule{{Items: "x", Scopes: []string{"write", "read", "offline_access"}}}
		},
		`{"resource":"https://a.example/mcp","authorization_servers":["https://auth.example.com","http://127.0.0.1:9/x"],"scopes_supported":["other"],"bearer_methods_supported":["header"],"resource_name":"W","resource_documentation":"https://a.example/d?x#y"}`: func(h *Handler) {
			h.Require = []string{"read"}
			h.OAuth.AuthorizationServers = append(h.OAuth.AuthorizationServers, "http://127.0.0.1:9/x")
			h.OAuth.Scopes, h.OAuth.Name, h.OAuth.Documentation = []string{"other"}, "W", "https://a.example/d?x#y"
		},
	} {
		app := new(App)
		if err := app.register(withOAuth(t, "weather", "https://a.example/mcp", change)); err != nil {
			t.Fatal(err)
		}
		w, _ := fetchMetadata(app, "GET", "https://a.example/.well-known/oauth-protected-resource/mcp")
		if got := w.Body.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%v", w.Header())
		}
	}
}

// TestMetadataMethods checks that web pages of any origin may read the metadata, or the
// 404 if there is no metadata. Methods that write are refused.
func TestMetadataMethods(t *testing.T) {
	app := new(App)
	if err := app.register(withOAuth(t, "weather", "https://a.example/mcp", nil)); err != nil {
		t.Fatal(err)
	}
	const there, elsewhere = "https://a.example/.well-known/oauth-protected-resource/mcp", "https://a.example/.well-known/oauth-protected-resource/x"
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 204, "POST": 405, "PUT": 405, "DELETE": 405, "QUERY": 405} {
		w, passed := fetchMetadata(app, method, there)
		h := w.Header()
		if w.Code != status || passed || h.Get("Access-Control-Allow-Origin") != "*" || (status == 405 || status == 204) != (h.Get("Allow") == "GET, HEAD, OPTIONS") {
			t.Errorf("%s: %d %v", method, w.Code, h)
		}
		if method == "OPTIONS" && (h.Get("Access-Control-Allow-Headers") != "*" || h.Get("Access-Control-Allow-Methods") != "GET, HEAD, OPTIONS" || w.Body.Len() > 0) {
			t.Errorf("preflight: %v %s", h, w.Body)
		}
		if w, _ := fetchMetadata(app, method, elsewhere); w.Code != 404 || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s elsewhere: %d %v", method, w.Code, w.Header())
		}
	}
}

// TestChallengeLeadsToMetadata checks that the challenge of a server with oauth
// contains the URL of the server's metadata, with a trailing slash if the request's URL
// had one. On a 401, the challenge also names the scopes that a client should request.
func TestChallengeLeadsToMetadata(t *testing.T) {
	const at = `resource_metadata="https://a.example/.well-known/oauth-protected-resource`
	lacking := &gate.Refusal{Code: gate.ScopeInsufficient, Tool: "t", Scopes: []string{"write"}, Lacking: []string{"write"}}
	missing, invalid := &gate.Refusal{Code: gate.TokenMissing}, &gate.Refusal{Code: gate.TokenInvalid}
	requires := func(h *Handler) { h.Require = []string{"read", keys.ScopeConnect, "write"} }
	for _, c := range []struct {
		resource, called string
		change           func(*Handler)
		refusal          *gate.Refusal
		want             string
	}{
		{"https://a.example/mcp", "/mcp", nil, missing, `Bearer realm="weather", scope="basic", ` + at + `/mcp"`},
		{"https://a.example/mcp", "/mcp", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/mcp"`},
		{"https://a.example/mcp", "/mcp/", requires, invalid, `Bearer realm="weather", error="invalid_token", scope="read write", ` + at + `/mcp/"`},
		{"https://a.example/mcp/", "/mcp/", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/mcp/"`},
		{"https://a.example/mcp/", "/mcp", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/mcp"`},
		{"https://a.example/mcp", "/mcp//", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/mcp"`},
		{"https://a.example/mcp", "/changed/by/a/proxy/", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/mcp"`},
		{"https://a.example", "/", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `"`},
		{"https://a.example/", "/", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/"`},
		{"https://a.example/caf%C3%A9", "/caf%C3%A9/", requires, missing, `Bearer realm="weather", scope="read write", ` + at + `/caf%C3%A9/"`},
		{"https://a.example/mcp", "/mcp", func(h *Handler) { h.ErrorStyle = styleHTTP }, lacking, `Bearer realm="weather", error="insufficient_scope", scope="write", ` + at + `/mcp"`},
		{"", "/mcp", requires, missing, `Bearer realm="weather"`},
		{"", "/mcp", func(h *Handler) { h.ErrorStyle = styleHTTP }, lacking, `Bearer realm="weather", error="insufficient_scope", scope="write"`},
	} {
		original := *httptest.NewRequest("POST", c.called, nil)
		w := refused(t, withOAuth(t, "weather", c.resource, c.change), c.refusal, original)
		if got := w.Header().Values("WWW-Authenticate"); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s, called by %s: %q, want %q", c.resource, c.called, got, c.want)
		}
	}
	h := withOAuth(t, "weather", "https://a.example/mcp", nil)
	h.site.Resource.Scopes = nil
	w := refused(t, h, missing, *httptest.NewRequest("POST", "/mcp", nil))
	if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="weather", `+at+`/mcp"`; got != want {
		t.Errorf("without scopes: %q, want %q", got, want)
	}
}

// TestDiscoveryIsNotFound checks that a request for a path at which clients look for
// metadata gets 404, whether or not the server has oauth, and never reaches the server.
func TestDiscoveryIsNotFound(t *testing.T) {
	for path, missing := range map[string]bool{
		"/.well-known/oauth-protected-resource": true, "/.well-known/oauth-protected-resource/mcp": true,
		"/.well-known/oauth-authorization-server": true, "/.well-known/oauth-authorization-server/mcp": true,
		"/.well-known/openid-configuration": true, "/.well-known/openid-configuration/mcp": true,
		"/.well-known/mcp.json": false, "/mcp": false, "/mcp/.well-known": false,
	} {
		for _, url := range []string{"", "https://a.example/mcp"} {
			for _, method := range []string{"GET", "POST", "OPTIONS"} {
				h := withOAuth(t, "weather", url, nil)
				next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
					t.Errorf("%s was forwarded", path)
					return nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				cancel() // end the context, so that no request waits for the store
				ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{})
				w := httptest.NewRecorder()
				err := h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, nil), next)
				handled, ok := errors.AsType[caddyhttp.HandlerError](err)
				if ok != missing || missing && handled.StatusCode != 404 {
					t.Errorf("%s %s: %v %d", method, path, err, w.Code)
				}
			}
		}
	}
}

// TestResourcesAgree checks that all handlers with one resource URL must have the same
// server and the same metadata.
func TestResourcesAgree(t *testing.T) {
	named := func(h *Handler) { h.OAuth.Name = "Weather" }
	for _, c := range []struct {
		one, other *Handler
		ok         bool
	}{
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "a", "https://a.example/mcp", nil), true},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "a", "https://b.example/mcp", named), true},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "a", "", nil), true},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "b", "https://a.example/b", nil), true},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "b", "https://a.example/mcp", nil), false},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "b", "https://a.example/mcp/", nil), false},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "a", "https://a.example/mcp/", nil), false},
		{withOAuth(t, "a", "https://a.example/mcp", nil), withOAuth(t, "a", "https://a.example/mcp", named), false},
	} {
		app := &App{handlers: []*Handler{c.one}}
		if err := app.register(c.other); (err == nil) != c.ok {
			t.Errorf("%+v and %+v: %v", c.one.OAuth, c.other.OAuth, err)
		}
	}
}

// TestOAuthNeedsMetadata checks that a config is refused if it has a server with oauth
// and nothing serves the server's metadata. The error names the missing line. The
// handler farebox_metadata may stand anywhere. The test validates each config several
// times, because Caddy provisions apps and servers in random order.
func TestOAuthNeedsMetadata(t *testing.T) {
	const (
		paid     = `{"handler":"farebox","server":"weather","provider":"acme","oauth":{"resource":"https://a.example/mcp","authorization_servers":["https://auth.example.com"]}},{"handler":"static_response"}`
		plain    = `{"handler":"farebox","server":"mail","provider":"acme"},{"handler":"static_response"}`
		metadata = `{"handler":"farebox_metadata"}`
	)
	route := func(handlers ...string) string { return `{"handle":[` + strings.Join(handlers, ",") + `]}` }
	sub := func(routes ...string) string {
		return `{"handler":"subroute","routes":[` + strings.Join(routes, ",") + `]}`
	}
	server := func(port string, routes ...string) string {
		return `"s` + port + `":{"listen":["127.0.0.1:` + port + `"],"routes":[` + strings.Join(routes, ",") + `]}`
	}
	for name, c := range map[string]struct {
		servers []string
		ok      bool
	}{
		"none":              {[]string{server("1", route(paid))}, false},
		"none, deep":        {[]string{server("1", `{"match":[{"path":["/x"]}],"handle":[`+sub(route(sub(route(paid))))+`]}`, route(plain)), server("2", route(plain))}, false},
		"no oauth":          {[]string{server("1", route(plain))}, true},
		"before":            {[]string{server("1", route(metadata, paid))}, true},
		"after":             {[]string{server("1", route(paid), route(metadata))}, true},
		"outside, after":    {[]string{server("1", route(sub(route(paid)), metadata))}, true},
		"inside, after":     {[]string{server("1", route(paid), route(sub(route(sub(route(metadata))))))}, true},
		"at another server": {[]string{server("1", route(paid)), server("2", route(plain), route(sub(route(metadata))))}, true},
		"named":             {[]string{server("1", route(paid)), `"s2":{"listen":["127.0.0.1:2"],"named_routes":{"m":` + route(metadata) + `}}`}, true},
	} {
		for range 8 {
			text := `{"admin":{"disabled":true},"apps":{"farebox":{"store":{"path":"` + t.TempDir() + `/f.db"}},"http":{"servers":{` + strings.Join(c.servers, ",") + `}}}}`
			var config caddy.Config
			if err := json.Unmarshal([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), `server "weather" has oauth, and nothing serves its metadata: add the line farebox_metadata to the site`) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	app := new(App)
	if err := app.register(withOAuth(t, "weather", "https://a.example/mcp", nil)); err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err == nil || !strings.Contains(err.Error(), "add the line farebox_metadata") {
		t.Errorf("started: %v", err)
	}
}
