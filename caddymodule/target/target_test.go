package target

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func parse(t *testing.T, text string) (Config, error) {
	t.Helper()
	tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	return Parse(d, func(*reverseproxy.Handler) error { return nil })
}

// TestSimple checks that a config with only one address is served by a client of
// package upstream, with the server's address as the Host. All other configs are served
// by a reverse_proxy.
func TestSimple(t *testing.T) {
	t.Setenv("MCP", "127.0.0.1:9")
	for text, want := range map[string]string{
		"upstream localhost:3001":     "tcp localhost:3001, host localhost:3001",
		"upstream http://10.0.0.7":    "tcp 10.0.0.7:80, host 10.0.0.7:80",
		"upstream [::1]:3001":         "tcp [::1]:3001, host [::1]:3001",
		"upstream {env.MCP}":          "tcp 127.0.0.1:9, host 127.0.0.1:9",
		"upstream unix//run/mcp.sock": "unix /run/mcp.sock, host localhost",
		"upstream localhost:3001 {\nheader_up Host mcp.example.com\n}":    "tcp localhost:3001, host mcp.example.com",
		"upstream localhost:3001 localhost:3002":                          "",
		"upstream https://mcp.example.com":                                "",
		"upstream h2c://localhost:3001":                                   "",
		"upstream {http.request.host}:3001":                               "",
		"upstream localhost:3001 {\nheader_up X-A b\n}":                   "",
		"upstream localhost:3001 {\nheader_up Host {host}\n}":             "",
		"upstream localhost:3001 {\nhealth_uri /\n}":                      "",
		"upstream localhost:3001 {\ntransport http {\nkeepalive 1s\n}\n}": "",
	} {
		config, err := parse(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		o, ok, err := simple(config)
		got := ""
		if ok {
			got = o.Network + " " + o.Address + ", host " + o.Host
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	config, err := parse(t, "upstream {env.NO_SUCH_VARIABLE}:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := simple(config); ok || err == nil || !strings.Contains(err.Error(), "NO_SUCH_VARIABLE") {
		t.Errorf("a missing variable: %v, %v", ok, err)
	}
}

// TestEnvironmentProxy checks that a reverse_proxy serves an address for which the
// environment names an HTTP proxy, because only a reverse_proxy uses that HTTP proxy.
// net/http reads the environment once, so the test runs itself again with another
// environment.
func TestEnvironmentProxy(t *testing.T) {
	const child = "FAREBOX_TEST_PROXY"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironmentProxy$")
		cmd.Env = append(os.Environ(), child+"=1", "HTTP_PROXY=http://proxy.example:8080", "http_proxy=", "NO_PROXY=10.0.0.8", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for address, direct := range map[string]bool{"10.0.0.7:80": false, "10.0.0.8:80": true, "localhost:3001": true, "127.0.0.1:3001": true} {
		config, err := parse(t, "upstream "+address)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := simple(config); ok != direct || err != nil {
			t.Errorf("%s: a client of its own: %v, %v; want %v", address, ok, err, direct)
		}
	}
}

// TestServe checks that both kinds of targets reach the server, with the body and with
// the Host header that the config names.
func TestServe(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 9)
		n, _ := r.Body.Read(body)
		_, _ = w.Write([]byte(r.Host + " " + string(body[:n])))
	}))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	for text, direct := range map[string]bool{"upstream " + address: true, "upstream " + address + " {\nheader_up X-A b\n}": false} {
		config, err := parse(t, text)
		if err != nil {
			t.Fatal(err)
		}
		to, err := Load(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if !direct && to.proxy.Transport.(*reverseproxy.HTTPTransport).KeepAlive.MaxIdleConnsPerHost != 1024 {
			t.Errorf("%s keeps few idle connections", text)
		}
		if (to.Direct() != nil) != direct || to.Rewrites() || !slices.Equal(to.Addresses(), []string{address}) {
			t.Errorf("%s: direct %v, addresses %q", text, to.Direct() != nil, to.Addresses())
		}
		r := httptest.NewRequest("POST", "http://gateway/mcp", strings.NewReader("hello"))
		r = prepared(r)
		w := httptest.NewRecorder()
		if err := to.ServeHTTP(w, r); err != nil || w.Body.String() != address+" hello" {
			t.Errorf("%s: %q, %v", text, w.Body, err)
		}
	}
	config, err := parse(t, "upstream localhost:1 {\nlb_policy random\n}")
	if err != nil {
		t.Fatal(err)
	}
	config = Config(strings.Replace(string(config), "random", "none_such", 1))
	if _, err := Load(ctx, config); err == nil || !strings.Contains(err.Error(), "none_such") || !json.Valid(config) {
		t.Errorf("a wrong policy: %v", err)
	}
}

// TestUnixSocket checks that a server on a Unix socket is served by a client of package
// upstream.
func TestUnixSocket(t *testing.T) {
	file := t.TempDir() + "/s"
	l, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Host)) })}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	config, err := parse(t, "upstream unix/"+file)
	if err != nil {
		t.Fatal(err)
	}
	to, err := Load(caddy.Context{}, config)
	if err != nil || to.Direct() == nil {
		t.Fatal(to, err)
	}
	defer to.Close()
	w := httptest.NewRecorder()
	if err := to.ServeHTTP(w, prepared(httptest.NewRequest("GET", "http://gateway/mcp", nil))); err != nil || w.Body.String() != "localhost" {
		t.Errorf("%q, %v", w.Body, err)
	}
}

// prepared returns a request as Caddy's server hands it to handlers.
func prepared(r *http.Request) *http.Request {
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
}
