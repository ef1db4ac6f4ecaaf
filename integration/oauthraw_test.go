package integration

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// twoServersSite returns a Caddyfile with two servers behind one gateway, weather and maps,
// for which the gateway issues tokens. The lines in options are the block of farebox_oauth.
func twoServersSite(upstream string, options ...string) string {
	options = append(options, "}")
	server := func(name string) string {
		return "handle_path /" + name + "/* {\nfarebox {\nserver " + name + "\nprovider acme\nupstream " + strings.TrimPrefix(upstream, "http://") +
			"\nprice get_forecast 0.01\nscope get_forecast cities.read\noauth {\nresource http://localhost:{$FAREBOX_PORT}/" + name + "/mcp\n}\n}\n}\n"
	}
	global, _, _ := strings.Cut(harness.Site(upstream), "http://localhost")
	global = strings.Replace(global, "\tfarebox {\n\t\tstore", "\tfarebox {\n\t\tscopes {\n\t\t\tdefault cities.read\n\t\t\tcities.read \"read the list of cities\"\n\t\t}\n\t\tstore", 1)
	return global + "http://localhost:{$FAREBOX_PORT} {\nbind 127.0.0.1\nlog\nfarebox_metadata\nfarebox_oauth {\n" + strings.Join(options, "\n") + "\n" +
		server("weather") + server("maps") + "}\n"
}

// rawClient is an OAuth client that sends its requests by hand, also bad ones.
type rawClient struct {
	t        testing.TB
	issuer   string
	id       string
	redirect string
	verifier string
}

// tokenAnswer is an answer of the token endpoint.
type tokenAnswer struct {
	Status      int    `json:"-"`
	Access      string `json:"access_token"`
	Refresh     string `json:"refresh_token"`
	Scope       string `json:"scope"`
	ExpiresIn   int64  `json:"expires_in"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// register registers a public client at the issuer.
func register(t testing.TB, issuer string, redirects ...string) *rawClient {
	t.Helper()
	if len(redirects) == 0 {
		redirects = []string{"http://127.0.0.1:1/callback"}
	}
	var b [32]byte
	rand.Read(b[:])
	c := &rawClient{t: t, issuer: issuer, redirect: redirects[0], verifier: base64.RawURLEncoding.EncodeToString(b[:])}
	body, err := json.Marshal(map[string]any{"client_name": "Raw", "redirect_uris": redirects, "token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"}})
	if err != nil {
		t.Fatal(err)
	}
	resp, text := c.send("POST", issuer+"/register", "application/json", string(body))
	var registered struct {
		ID string `json:"client_id"`
	}
	if err := json.Unmarshal([]byte(text), &registered); err != nil || resp.StatusCode != http.StatusCreated || registered.ID == "" {
		t.Fatalf("registration: %d %s", resp.StatusCode, text)
	}
	c.id = registered.ID
	return c
}

// send sends a request without a cookie and follows no redirect.
func (c *rawClient) send(method, address, contentType, body string, header ...string) (*http.Response, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(text)
}

// challenge returns the PKCE challenge of the client's verifier.
func (c *rawClient) challenge() string {
	sum := sha256.Sum256([]byte(c.verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorization returns the URL of a correct authorization request with some parameters
// changed. An empty value removes the parameter.
func (c *rawClient) authorization(changes map[string]string) string {
	params := map[string]string{
		"response_type": "code", "client_id": c.id, "redirect_uri": c.redirect, "state": "state of the client", "scope": "cities.read",
		"code_challenge": c.challenge(), "code_challenge_method": "S256",
	}
	maps.Copy(params, changes)
	query := url.Values{}
	for name, value := range params {
		if value != "" {
			query.Set(name, value)
		}
	}
	return c.issuer + "/authorize?" + query.Encode()
}

// code returns a code for which a person pays by the agent key.
func (c *rawClient) code(secret string) string {
	c.t.Helper()
	got, err := newBrowser(c.t).allow(c.authorization(nil), secret)
	if err != nil {
		c.t.Fatal(err)
	}
	if got.Get("iss") != c.issuer || got.Get("state") != "state of the client" || got.Get("code") == "" || got.Has("error") {
		c.t.Fatalf("the client gets %v", slices.Sorted(maps.Keys(got)))
	}
	return got.Get("code")
}

// token sends a request to the token endpoint, with the client's id unless the form has
// one.
func (c *rawClient) token(form url.Values) (a tokenAnswer) {
	c.t.Helper()
	if !form.Has("client_id") {
		form.Set("client_id", c.id)
	}
	resp, text := c.send("POST", c.issuer+"/token", "application/x-www-form-urlencoded", form.Encode())
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		c.t.Fatalf("token: %d %s", resp.StatusCode, text)
	}
	if a.Status = resp.StatusCode; resp.Header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("a cache may store the tokens: %v", resp.Header)
	}
	return a
}

// exchange sends a code with the client's verifier.
func (c *rawClient) exchange(code string) tokenAnswer {
	c.t.Helper()
	return c.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.redirect}, "code_verifier": {c.verifier}})
}

// refresh sends a refresh token.
func (c *rawClient) refresh(token string) tokenAnswer {
	c.t.Helper()
	return c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// tokens returns the tokens of a new grant that the agent key gives.
func (c *rawClient) tokens(secret string) tokenAnswer {
	c.t.Helper()
	a := c.exchange(c.code(secret))
	if a.Status != http.StatusOK || a.Access == "" || a.Refresh == "" {
		c.t.Fatalf("no tokens: %d %s %s", a.Status, a.Error, a.Description)
	}
	return a
}

// statusAt returns the status of a paid call with the token at an MCP endpoint.
func (c *rawClient) statusAt(endpoint, token string) int {
	c.t.Helper()
	header := []string{"Accept", "application/json, text/event-stream"}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	resp, _ := c.send("POST", endpoint, "application/json", harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`), header...)
	return resp.StatusCode
}
