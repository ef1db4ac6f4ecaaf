package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/fareboxhq/farebox/integration/harness"
)

// oauthSites returns a Caddyfile with four servers in one site. The server named
// weather is in handle_path. The server named slash is in handle, and its URL ends
// with a slash. The server named plain is in handle_path and has no oauth. The
// server named root serves all other paths.
func oauthSites(upstream, issuer string) string {
	site := strings.TrimPrefix(upstream, "http://")
	farebox := func(server, resource string) string {
		oauth := ""
		if server != "plain" {
			oauth = fmt.Sprintf("oauth {\nresource http://localhost:{$FAREBOX_PORT}%s\nauthorization_servers %s\nname %s\n}\n", resource, issuer, server)
		}
		return fmt.Sprintf("farebox {\nserver %s\nprovider acme\nprice get_forecast 0.01\nscope list_cities cities.read\n%s}\n"+
			"reverse_proxy %s {\nheader_up Host {upstream_hostport}\n}", server, oauth, site)
	}
	text := harness.Site(upstream, "server x")
	options, _, _ := strings.Cut(text, "http://localhost")
	options = strings.Replace(options, "farebox {", "farebox {\n scopes {\n default cities.read\n cities.read\n cities.write\n }", 1)
	return options + "http://localhost:{$FAREBOX_PORT} {\n bind 127.0.0.1\n farebox_metadata\n" +
		"handle_path /weather/* {\n" + farebox("weather", "/weather/mcp") + "\n}\n" +
		"handle /slash/* {\n uri strip_prefix /slash\n" + farebox("slash", "/slash/mcp/") + "\n}\n" +
		"handle_path /plain/* {\n" + farebox("plain", "") + "\n}\n" +
		"handle {\n" + farebox("root", "") + "\n}\n}\n"
}

// issuer starts an authorization server that serves only its own metadata, and returns
// the server's URL.
func issuer(t *testing.T) string {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/oauth-authorization-server" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%[1]q,"authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/token","response_types_supported":["code"],"code_challenge_methods_supported":["S256"]}`, server.URL)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// withoutChallenges is a transport that removes WWW-Authenticate challenges from
// responses, as old proxies do.
type withoutChallenges struct{}

func (withoutChallenges) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Header.Del("WWW-Authenticate")
	}
	return resp, err
}

var errAsked = errors.New("the user was asked")

// askedByGo connects with the official Go SDK and returns the URL to which the
// SDK would send its user for authorization.
func askedByGo(t *testing.T, endpoint string, transport http.RoundTripper) *url.URL {
	t.Helper()
	var asked string
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: &oauthex.ClientCredentials{ClientID: "farebox-test"},
		RedirectURL:         "http://127.0.0.1:1/callback",
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			asked = args.URL
			return nil, errAsked
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	_, err = client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: &http.Client{Transport: transport}, OAuthHandler: handler,
	}, nil)
	u, parsed := url.Parse(asked)
	if asked == "" || parsed != nil {
		t.Fatalf("%s: the user was not asked: %v", endpoint, err)
	}
	return u
}

// found is the output of discover.mjs.
type found struct {
	Challenge struct {
		Metadata string `json:"resourceMetadataUrl"`
		Scope    string `json:"scope"`
		Error    string `json:"error"`
	} `json:"challenge"`
	Legacy      string     `json:"legacy"`
	ByChallenge discovered `json:"byChallenge"`
	ByWellKnown discovered `json:"byWellKnown"`
	Connect     any        `json:"connect"` // the HTTP status of a connection without a token
}

// discovered holds metadata and the resource for which a client would request a
// token.
type discovered struct {
	Metadata metadata `json:"metadata"`
	Resource string   `json:"resource"`
	Failed   string   `json:"failed"`
}

type metadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
	Name     string   `json:"resource_name"`
}

// foundByTypeScript runs the official TypeScript SDK's discovery.
func foundByTypeScript(t *testing.T, endpoint string) (f found) {
	t.Helper()
	cmd := command(t, "", binaries.Node(t), filepath.Join(binaries.Root, "integration", "node", "discover.mjs"), endpoint)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", endpoint, err, stderr.Bytes())
	}
	if err := json.Unmarshal(stdout.Bytes(), &f); err != nil {
		t.Fatalf("%v in %s", err, stdout.Bytes())
	}
	return f
}

// TestOAuthDiscovery checks that discovery in the official SDKs accepts the metadata of
// each server with oauth. Discovery must work for URLs with and without a slash at the
// end, both from the challenge and from the well-known URLs alone. No request reaches
// the server behind the gateway.
func TestOAuthDiscovery(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	as := issuer(t)
	g := binaries.StartGateway(t, oauthSites(recorder.URL, as))
	base := "http://localhost:" + g.Port
	for _, c := range []struct{ server, path string }{
		{"weather", "/weather/mcp"}, {"weather", "/weather/mcp/"}, {"slash", "/slash/mcp"}, {"slash", "/slash/mcp/"}, {"root", ""}, {"root", "/"},
	} {
		endpoint := base + c.path
		t.Run(c.server+c.path, func(t *testing.T) {
			for how, transport := range map[string]http.RoundTripper{"by the challenge": http.DefaultTransport, "by well-known places": withoutChallenges{}} {
				asked := askedByGo(t, endpoint, transport)
				if query := asked.Query(); !strings.HasPrefix(asked.String(), as+"/authorize?") || query.Get("resource") != endpoint || query.Get("scope") != "cities.read" {
					t.Errorf("%s go-sdk asks for %s", how, asked)
				}
			}
			f := foundByTypeScript(t, endpoint)
			at := base + "/.well-known/oauth-protected-resource" + c.path
			if c.path == "/" {
				at = strings.TrimSuffix(at, "/") // both forms of the root URL produce the same request
			}
			if f.Challenge.Metadata != at || f.Legacy != at || f.Challenge.Scope != "cities.read" || f.Challenge.Error != "" || f.Connect != 401.0 {
				t.Errorf("the TypeScript SDK reads %+v, %q and %v; want %s", f.Challenge, f.Legacy, f.Connect, at)
			}
			if f.ByChallenge.Metadata.Resource != strings.Replace(at, "/.well-known/oauth-protected-resource", "", 1) {
				t.Errorf("by the challenge the TypeScript SDK has %+v", f.ByChallenge)
			}
			for _, by := range []discovered{f.ByChallenge, f.ByWellKnown} {
				m := by.Metadata
				if by.Failed != "" || m.Name != c.server || !slices.Equal(m.Servers, []string{as}) || !slices.Equal(m.Scopes, []string{"cities.read"}) ||
					strings.TrimSuffix(by.Resource, "/") != strings.TrimSuffix(endpoint, "/") {
					t.Errorf("the TypeScript SDK has found %+v", by)
				}
			}
		})
	}
	if n := len(recorder.Requests()); n != 0 {
		t.Errorf("the server has seen %d requests", n)
	}
}

// TestOAuthIsOfItsServer checks that a server without oauth, in a site with servers
// that have oauth, has no metadata, and its challenges refer to no metadata. Calls with
// keys work as before.
func TestOAuthIsOfItsServer(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, oauthSites(binaries.StartWeather(t, "-stateless"), "https://auth.example.com"))
	base := "http://localhost:" + g.Port
	for path, name := range map[string]string{
		"": "root", "/": "root", "/weather/mcp": "weather", "/slash/mcp/": "slash", "/plain/mcp": "", "/plain/mcp/": "", "/plain": "", "/mcp": "",
	} {
		status, body := get(t, base+"/.well-known/oauth-protected-resource"+path)
		var m metadata
		if name == "" {
			if status != 404 || body != "" {
				t.Errorf("%q: %d %s", path, status, body)
			}
			continue
		}
		if err := json.Unmarshal([]byte(body), &m); err != nil || status != 200 || m.Name != name {
			t.Errorf("%q: %d %s", path, status, body)
		}
	}
	agent, _ := g.NewAgent(t, "agent", "1.00")
	key := g.NewKey(t, agent.Name, "--scope", "cities.read")
	for _, server := range []string{"weather", "slash", "plain"} {
		call := func(secret, tool string) *harness.Answer {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/"+server+"/mcp", strings.NewReader(harness.ToolCall(1, tool, `{"city":"Oslo"}`)))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := g.Send(http.DefaultClient, secret, req)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		if answer := call(key.Secret, "get_forecast"); answer.Result == nil || answer.Result.IsError {
			t.Errorf("%s: %s", server, answer.Body)
		}
		challenge := call("", "get_forecast").Header.Values("WWW-Authenticate")
		if len(challenge) != 1 || strings.Contains(challenge[0], "resource_metadata") != (server != "plain") {
			t.Errorf("%s: %q", server, challenge)
		}
	}
}

// get fetches a URL without a token.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestOAuthOff checks that, without oauth, all well-known URLs of OAuth metadata return
// 404, even if the site sends every path to the gateway. The SDKs conclude that the
// server has no metadata and report the 401 to their users.
func TestOAuthOff(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	site := harness.Site(recorder.URL, "server weather", "provider acme")
	g := binaries.StartGateway(t, strings.Replace(site, "handle /mcp* {", "handle /* {", 1))
	base := "http://localhost:" + g.Port
	places := []string{"oauth-protected-resource", "oauth-protected-resource/", "oauth-protected-resource/mcp", "oauth-authorization-server", "oauth-authorization-server/mcp", "openid-configuration", "openid-configuration/mcp"}
	for _, place := range places {
		if status, body := get(t, base+"/.well-known/"+place); status != 404 || body != "" {
			t.Errorf("%s: %d %s", place, status, body)
		}
	}
	if n := g.Metrics(t)[`farebox_requests_total{decision="not_found",method="GET",server="weather"}`]; n != float64(len(places)) {
		t.Errorf("%v requests are counted as not found, want %d", n, len(places))
	}
	for _, endpoint := range []string{base, base + "/", base + "/mcp", base + "/mcp/"} {
		f := foundByTypeScript(t, endpoint)
		if f.Challenge.Metadata != "" || f.Legacy != "" || f.Connect != 401.0 || !strings.Contains(f.ByWellKnown.Failed, "does not implement OAuth 2.0 Protected Resource Metadata") {
			t.Errorf("%s: the TypeScript SDK has found %+v", endpoint, f)
		}
		if asked := askedByGo(t, endpoint, http.DefaultTransport); !strings.HasPrefix(asked.String(), base+"/authorize?") { // the URL that the SDK guesses for a server without metadata
			t.Errorf("%s: go-sdk asks for %s", endpoint, asked)
		}
		client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
		if _, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: endpoint}, nil); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
			t.Errorf("%s: go-sdk says %v", endpoint, err)
		}
	}
	if n := len(recorder.Requests()); n != 0 {
		t.Errorf("the server has seen %d requests", n)
	}
}

// TestOAuthAsksForItsLine checks that "validate" refuses a config that has oauth but no
// directive serving the metadata, and names the missing directive.
func TestOAuthAsksForItsLine(t *testing.T) {
	t.Parallel()
	good := strings.ReplaceAll(oauthSites("http://localhost:1", "https://auth.example.com"), "{$CADDY_ADMIN}", "off")
	for _, c := range []struct {
		text string
		want string // part of the error; "" if the config is valid
	}{
		{good, ""},
		{strings.Replace(good, "farebox_metadata\n", "", 1), "add the line farebox_metadata to the site"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "Caddyfile")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := command(t, "", binaries.Farebox, "validate", "--config", file, "--adapter", "caddyfile")
		cmd.Env = append(cmd.Env, "FAREBOX_DATA="+dir, "FAREBOX_PORT=8080", "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %s", err, out)
		}
	}
}
