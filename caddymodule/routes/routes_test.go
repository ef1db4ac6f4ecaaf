package routes

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/fareboxhq/farebox/caddymodule/target"
)

func init() { caddy.RegisterModule(new(guarding)) }

// guarding is a farebox handler that passes every request on.
type guarding struct {
	guard    Guard
	upstream target.Config
}

// The handler that was provisioned most recently.
var last *guarding

func (*guarding) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox", New: func() caddy.Module { return new(guarding) }}
}

func (g *guarding) UnmarshalJSON(text []byte) error {
	var more struct {
		Upstream target.Config `json:"upstream"`
	}
	err := errors.Join(json.Unmarshal(text, &g.guard), json.Unmarshal(text, &more))
	g.upstream = more.Upstream
	return err
}

func (g *guarding) Target() (caddyhttp.Handler, []string) {
	if g.upstream == nil {
		return nil, nil
	}
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "behind")
		return err
	}), target.Addresses(g.upstream)
}

func (g *guarding) Provision(caddy.Context) error {
	last = g
	return nil
}

func (g *guarding) Guard() Guard { return g.guard }

func (*guarding) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

const (
	guard   = `{"handler":"farebox","server":"weather","source":"Caddyfile:3"}`
	leading = `{"handler":"farebox","server":"weather","source":"Caddyfile:3","upstream":{"upstreams":[{"dial":"127.0.0.1:2"}]}}`
	behind  = `{"handler":"static_response","body":"behind"}`
	wrong   = `{"handler":"static_response","body":"wrong"}`
)

func proxyTo(dial string) string {
	return `{"handler":"reverse_proxy","upstreams":[{"dial":"` + dial + `"}]}`
}

// route returns a route as JSON. attributes are further members of the route, such as a
// group, each followed by a comma.
func route(attributes string, handlers ...string) string {
	return `{` + attributes + `"handle":[` + strings.Join(handlers, ",") + `]}`
}

func hostRoute(host string, routes ...string) string {
	return route(`"match":[{"host":["`+host+`.example"]}],`, subroute(routes...))
}

func subroute(routes ...string) string {
	return `{"handler":"subroute","routes":[` + strings.Join(routes, ",") + `]}`
}

// provisioned returns an HTTP app with one server. The server has the given routes, and
// the named route "n".
func provisioned(t *testing.T, named string, routes ...string) *caddyhttp.App {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"http": json.RawMessage(httpApp(named, routes...))},
	})
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App)
}

func httpApp(named string, routes ...string) string {
	return `{"servers":{"s":{"listen":["127.0.0.1:1"],"automatic_https":{"disable":true},"named_routes":{"n":` + named + `},"routes":[` + strings.Join(routes, ",") + `]}}}`
}

// TestFind checks that Find finds a handler at any depth of nested routes, and serves
// requests with the handlers that Caddy would run behind it. The handlers before the
// found handler, and the other routes of its group, must never run.
func TestFind(t *testing.T) {
	const answers, missing = "behind", ""
	for name, c := range map[string]struct {
		named  string
		routes []string
		want   string
	}{
		"in its route":        {"{}", []string{route("", wrong), route("", guard, behind)}, answers},
		"in the next route":   {"{}", []string{route("", guard), route("", behind)}, answers},
		"through a subroute":  {"{}", []string{route("", subroute(route("", subroute(route("", guard)))), behind)}, answers},
		"through an invoke":   {route("", guard), []string{route("", `{"handler":"invoke","name":"n"}`, behind)}, answers},
		"past its group":      {"{}", []string{route(`"group":"g",`, guard), route(`"group":"g",`, wrong), route("", behind)}, answers},
		"in a terminal route": {"{}", []string{route(`"terminal":true,`, guard), route("", wrong)}, missing},
		"alone":               {"{}", []string{route("", guard)}, missing},
		"with its own target": {"{}", []string{route("", leading, wrong), route("", wrong)}, answers},
	} {
		app := provisioned(t, c.named, c.routes...)
		place := Find(app, last)
		if place == nil {
			t.Errorf("%s: not found", name)
			continue
		}
		w := httptest.NewRecorder()
		place.ServeHTTP(w, httptest.NewRequest("POST", "http://"+place.Host()+"/mcp", nil))
		if w.Body.String() != c.want || (w.Code == http.StatusNotFound) != (c.want == missing) {
			t.Errorf("%s: %d %q, want %q", name, w.Code, w.Body, c.want)
		}
		if Find(app, new(guarding)) != nil {
			t.Errorf("%s: a handler of another config is found", name)
		}
	}
	invoke := route("", `{"handler":"invoke","name":"n"}`)
	if Find(provisioned(t, invoke, invoke), last) != nil {
		t.Error("a handler is found in a named route that invokes itself")
	}
}

// TestPlace checks that a place has the upstreams behind the handler, and the hosts and
// paths of the routes around the handler.
func TestPlace(t *testing.T) {
	app := provisioned(t, "{}",
		route(`"match":[{"host":["*.example.com","mcp.example.com"]}],`,
			subroute(route(`"match":[{"path":["/weather/*"]}],`, proxyTo("127.0.0.1:1"), guard, proxyTo("127.0.0.1:2"))), proxyTo("127.0.0.1:3")))
	place := Find(app, last)
	if want := []string{"127.0.0.1:2", "127.0.0.1:3"}; !slices.Equal(place.Upstreams, want) {
		t.Errorf("the upstreams are %q, want %q", place.Upstreams, want)
	}
	if want := []string{"/mcp", "/mcp/", "/", "/weather"}; place.Host() != "mcp.example.com" || !slices.Equal(place.Paths(), want) {
		t.Errorf("called at %q and %q, want %q", place.Host(), place.Paths(), want)
	}
}

// TestLook checks that Look reports a bypass: a reverse_proxy that reaches a guarded
// server without a farebox before it. Look names the lines of the reverse_proxy in the
// Caddyfile, whether or not Caddy has provisioned the routes.
func TestLook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	const text = `a.example {
	farebox {
		server weather
	}
	reverse_proxy localhost:9000
}
b.example {
	handle /mail {
		farebox
		reverse_proxy localhost:9000
	}
	handle /x {
		reverse_proxy http://127.0.0.1:9000
	}
	handle {
		reverse_proxy localhost:9001 localhost:9000
	}
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	of := Guard{Server: "weather", Source: file + ":2"}
	source, err := json.Marshal(file + ":2")
	if err != nil {
		t.Fatal(err)
	}
	here := `{"handler":"farebox","server":"weather","source":` + string(source) + `}`
	guarded, past := route("", subroute(route("", here, proxyTo("localhost:9000")))), route("", proxyTo("127.0.0.1:9000"))
	own := route("", strings.TrimSuffix(here, "}")+`,"upstream":{"upstreams":[{"dial":"localhost:9000"}]}}`)
	bypass := []Bypass{{of, "localhost:9000", file + ":13, " + file + ":16"}}
	handle := func(path, routes string) string {
		return route(`"group":"g","match":[{"path":["`+path+`"]}],`, subroute(routes))
	}
	terminal := func(host string, routes ...string) string { // the routes of sites in a Caddyfile are terminal
		return strings.Replace(hostRoute(host, routes...), "{", `{"terminal":true,`, 1)
	}
	for name, c := range map[string]struct {
		routes []string
		want   []Bypass
	}{
		"another site":   {[]string{hostRoute("b", past), hostRoute("a", guarded)}, bypass},
		"a later site":   {[]string{terminal("a", guarded), terminal("b", past)}, bypass},
		"another handle": {[]string{handle("/mcp", guarded), handle("/x", past)}, bypass},
		"another server": {[]string{hostRoute("b", route("", proxyTo("localhost:1"))), hostRoute("a", guarded)}, nil},
		"own upstream":   {[]string{hostRoute("b", past), hostRoute("a", own)}, bypass},
		"own alone":      {[]string{hostRoute("a", own)}, nil},
		"behind farebox": {[]string{hostRoute("a", guarded, past)}, nil},
	} {
		raw := new(caddyhttp.App)
		if err := json.Unmarshal([]byte(httpApp("{}", c.routes...)), raw); err != nil {
			t.Fatal(err)
		}
		for state, app := range map[string]*caddyhttp.App{"before": raw, "after": provisioned(t, "{}", c.routes...)} {
			if got := Look(app); !slices.Equal(got.Bypasses, c.want) || got.Idle != nil || got.LogsCredentials != "" {
				t.Errorf("%s, %s it was provisioned: %+v, want %+v", name, state, got, c.want)
			}
		}
	}
}

// TestURL checks the address at which clients call a server, by its listener, hosts
// and paths.
func TestURL(t *testing.T) {
	for _, c := range []struct {
		listen, host, path string
		tls                bool
		want               string
	}{
		{":8080", "", "", false, "http://localhost:8080/mcp"},
		{"127.0.0.1:80", "a.example", "/mcp*", false, "http://a.example/mcp"},
		{":443", "*.example", "/mcp/*", true, "https://localhost/mcp"},
		{":8443", "a.example", "/weather/*", true, "https://a.example:8443/weather/mcp"},
		{":80", "a.example", "/tools", false, "http://a.example/tools"},
		{":80", "a.example", "/*/x", false, "http://a.example/mcp"},
		{"unix//run/x.sock", "a.example", "/mcp", false, ""},
	} {
		p := &Place{server: &caddyhttp.Server{Listen: []string{c.listen}}}
		if c.tls {
			p.server.TLSConnPolicies = make([]*caddytls.ConnectionPolicy, 1)
		}
		if c.host != "" {
			p.hosts = []string{c.host}
		}
		if c.path != "" {
			p.paths = []string{c.path}
		}
		if got := p.URL(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
