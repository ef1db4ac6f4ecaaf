package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/fareboxhq/farebox/integration/harness"
)

// ownIssuerSite returns a Caddyfile in which the gateway issues the tokens for its server.
// The lines in options are the block of farebox_oauth.
func ownIssuerSite(upstream string, options ...string) string {
	text := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01", "scope get_forecast cities.read",
		"oauth {\nresource http://localhost:{$FAREBOX_PORT}/mcp\nname \"City weather\"\n}")
	text = strings.Replace(text, "\tfarebox {\n\t\tstore", "\tfarebox {\n\t\tscopes {\n\t\t\tdefault cities.read\n\t\t\tcities.read \"read the list of cities\"\n\t\t}\n\t\tstore", 1)
	return strings.Replace(text, "\tbind 127.0.0.1\n", "\tbind 127.0.0.1\n\tfarebox_metadata\n\tfarebox_oauth {\n"+strings.Join(options, "\n")+"\n}\n", 1)
}

// browser is a person at the consent page: it keeps cookies, fills in forms, and stops at
// the redirect to the client.
type browser struct {
	http *http.Client
	t    testing.TB
}

func newBrowser(t testing.TB) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, http: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// page is the content of a browser's window.
type page struct {
	status   int
	text     string
	location *url.URL // where the browser is sent; nil if it is not
	header   http.Header
}

func (b *browser) open(address string) page {
	b.t.Helper()
	resp, err := b.http.Get(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.read(resp)
}

func (b *browser) read(resp *http.Response) page {
	b.t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	p := page{status: resp.StatusCode, text: string(body), header: resp.Header}
	if location := resp.Header.Get("Location"); location != "" {
		if p.location, err = url.Parse(location); err != nil {
			b.t.Fatal(err)
		}
	}
	return p
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]+)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
	checked    = regexp.MustCompile(`<input type="checkbox" name="([^"]+)" value="1" checked>`)
)

// submit sends the form of the page with the fields that a person has filled in.
func (b *browser) submit(p page, fields map[string]string) page {
	b.t.Helper()
	return b.submitFrom(p, fields)
}

// submitFrom is submit with further headers: names and values.
func (b *browser) submitFrom(p page, fields map[string]string, header ...string) page {
	b.t.Helper()
	action := formAction.FindStringSubmatch(p.text)
	if action == nil {
		b.t.Fatalf("the page has no form: %d\n%s", p.status, p.text)
	}
	form := url.Values{}
	for _, field := range hidden.FindAllStringSubmatch(p.text, -1) {
		form.Set(field[1], field[2])
	}
	for _, box := range checked.FindAllStringSubmatch(p.text, -1) {
		form.Set(box[1], "1")
	}
	for name, value := range fields {
		form.Set(name, value)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, action[1], strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.read(resp)
}

// allow opens an authorization URL, shows the agent key and allows the client. It returns
// the parameters that the client gets.
func (b *browser) allow(address, secret string) (url.Values, error) {
	b.t.Helper()
	p := b.submit(b.open(address), map[string]string{"key": secret, "step": "key"})
	if p.status != http.StatusOK {
		return nil, fmt.Errorf("the key was refused: %d\n%s", p.status, p.text)
	}
	p = b.submit(p, map[string]string{"step": "allow"})
	if p.status != http.StatusSeeOther || p.location == nil {
		return nil, fmt.Errorf("the browser was not sent to the client: %d\n%s", p.status, p.text)
	}
	return p.location.Query(), nil
}

// authorized connects to the gateway with the official Go SDK, which registers itself. The
// person at the browser pays with the agent key.
func authorized(t *testing.T, endpoint string, secret string) (*mcp.ClientSession, error) {
	t.Helper()
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Farebox test", RedirectURIs: []string{"http://127.0.0.1:1/callback"}, GrantTypes: []string{"authorization_code", "refresh_token"},
		}},
		RedirectURL:         "http://127.0.0.1:1/callback",
		RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			got, err := newBrowser(t).allow(args.URL, secret)
			if err != nil {
				return nil, err
			}
			return &auth.AuthorizationResult{Code: got.Get("code"), State: got.Get("state"), Iss: got.Get("iss")}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	return client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: endpoint, OAuthHandler: handler}, nil)
}

// TestOAuthPaysByKey checks the whole way of a client that the Go SDK makes: it discovers
// the gateway's issuer, registers, sends a person to the consent page, and gets tokens.
// The person's agent key pays for the client's calls. After the key is deleted, the token
// is refused at once.
func TestOAuthPaysByKey(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, ownIssuerSite(binaries.StartWeather(t, "-stateless")))
	agent, _ := g.NewAgent(t, "agent", "1.00")
	key := g.NewKey(t, agent.Name, "--scope", "cities.read")
	session, err := authorized(t, g.Endpoint(), key.Secret)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}})
	if err != nil || result.IsError {
		t.Fatalf("%+v, %v", result, err)
	}
	charges := g.Charges(t, agent.Name)
	if len(charges) != 1 || charges[0].Amount.String() != "0.01" {
		t.Errorf("charges %+v", charges)
	}
	g.CLI(t, nil, "key", "delete", key.ID)
	_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}})
	if err == nil {
		t.Error("the token works although its key is deleted")
	}
	if n := len(g.Charges(t, agent.Name)); n != 1 {
		t.Errorf("%d charges after the key was deleted", n)
	}
	if errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	g.VerifyLedger(t)
}
