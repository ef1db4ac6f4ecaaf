package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestOAuthTopUpLink checks that a refusal for lack of credits has the link for buying for
// everyone but ChatGPT, which is known by its program and, with a token, by the host to
// which its codes go.
func TestOAuthTopUpLink(t *testing.T) {
	t.Parallel()
	const link = "https://pay.example.com/credits"
	site := strings.Replace(ownIssuerSite(binaries.StartWeather(t, "-stateless")), "provider acme", "provider acme\ntopup_url "+link, 1)
	g := binaries.StartGateway(t, site)
	g.NewAgent(t, "agent", "")
	key := g.NewKey(t, "agent", "--scope", "cities.read").Secret
	issuer := "http://localhost:" + g.Port + "/oauth/weather"
	own := register(t, issuer)
	chatgpt := register(t, issuer, "https://chatgpt.com/connector/oauth/a1b2")
	for name, c := range map[string]struct {
		secret, agent string
		shown         bool
	}{
		"a key":               {key, "python-httpx/0.28", true},
		"ChatGPT by a key":    {key, "openai-mcp/1.0.0", false},
		"an app":              {own.tokens(key).Access, "python-httpx/0.28", true},
		"ChatGPT by its host": {chatgpt.tokens(key).Access, "python-httpx/0.28", false},
	} {
		resp, text := own.send("POST", g.Endpoint(), "application/json", harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`),
			"Accept", "application/json, text/event-stream", "Authorization", "Bearer "+c.secret, "User-Agent", c.agent)
		if resp.StatusCode != http.StatusOK || !strings.Contains(text, "INSUFFICIENT_BALANCE") {
			t.Errorf("%s: %s %s", name, resp.Status, text)
		}
		if strings.Contains(text, link) != c.shown {
			t.Errorf("%s: want the link: %v, got %s", name, c.shown, text)
		}
	}
}

// TestOAuthTokensOverReloads checks promise 11 of docs/promises.md for access tokens: calls
// by a token go on, each charged once, while the config is reloaded with other prices. A
// grant that is revoked then is dead at once, for the newest config as for the first.
func TestOAuthTokensOverReloads(t *testing.T) {
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	site := func(price string) string {
		return strings.Replace(ownIssuerSite(recorder.URL), "get_forecast 0.01", "get_forecast "+price, 1)
	}
	g := binaries.StartGateway(t, site("0.01"))
	g.NewAgent(t, "agent", "1000.00")
	client := register(t, "http://localhost:"+g.Port+"/oauth/weather")
	token := client.tokens(g.NewKey(t, "agent", "--scope", "cities.read").Secret).Access
	load := startLoad(g, token)
	for i, price := range []string{"0.02", "0.03", "0.04", "0.05", "0.06"} {
		if status, answer := reload(t, g, site(price)); status != http.StatusOK {
			t.Fatalf("reload %d: %d %s", i, status, answer)
		}
		load.await(t, int64(i+1)*10)
	}
	charges := load.stop(t)
	listed := g.Charges(t, "agent")
	if len(listed) != len(charges) || recorder.Calls("get_forecast") != len(charges) {
		t.Errorf("%d results, %d charges, %d calls of the server", len(charges), len(listed), recorder.Calls("get_forecast"))
	}
	for _, c := range listed {
		if !charges[c.ID] {
			t.Errorf("the charge %s has no result", c.ID)
		}
	}
	var grants []struct{ ID string }
	g.CLI(t, &grants, "grant", "list", "--account", "agent")
	if len(grants) != 1 {
		t.Fatalf("%d grants", len(grants))
	}
	g.CLI(t, nil, "grant", "revoke", grants[0].ID)
	if status := client.statusAt(g.Endpoint(), token); status != http.StatusUnauthorized {
		t.Errorf("the token of a revoked grant gets %d", status)
	}
	g.VerifyLedger(t)
}
