package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const issuerAudience = "https://mcp.example.com/weather/mcp"

// oneForecast is a call of the priced tool.
var oneForecast = harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)

// startIssuer starts an issuer. Its clock is that of the system, so its tokens are not valid
// in a test with a shifted clock.
func startIssuer(t *testing.T) *harness.Issuer {
	t.Helper()
	if clock.Shift() != 0 {
		t.Skip("the issuer has the clock of the system")
	}
	issuer := binaries.NewIssuer(t)
	issuer.Start()
	return issuer
}

// trusting returns a Caddyfile with a server that accepts tokens of an issuer. The
// parameter lines are in the block of the issuer.
func trusting(upstream string, issuer *harness.Issuer, lines ...string) string {
	block := "issuer " + issuer.URL + " {\n audience " + issuerAudience + "\n" + strings.Join(lines, "\n") + "\n}"
	text := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01", "free list_cities", "scope list_cities cities.read", block)
	return strings.Replace(text, "farebox {", "farebox {\n\t\tscopes {\n\t\t\tcities.read\n\t\t}", 1)
}

// forecastBy calls the priced tool with a token, and returns the answer.
func forecastBy(t *testing.T, g *harness.Gateway, token string) *harness.Answer {
	t.Helper()
	answer, err := g.Post(t.Context(), http.DefaultClient, token, oneForecast)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestIssuer checks the tokens of an OpenID provider through the whole gateway: parallel
// first calls of a subject make one account with one starting credit and are charged, other
// tokens are refused as invalid, and a rotation of the provider's keys is followed.
func TestIssuer(t *testing.T) {
	issuer := startIssuer(t)
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, trusting(upstream, issuer, "account sub", "create credit 1.00"))

	token := issuer.Token("jwt-alice", issuerAudience)
	g.AddSecret(token)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if answer := forecastBy(t, g, token); answer.Message.Code() != "" || answer.Status != http.StatusOK {
				t.Errorf("a first call: %d %s", answer.Status, answer.Body)
			}
		})
	}
	calls.Wait()
	var accounts []harness.Account
	g.CLI(t, &accounts, "account", "list", "--limit", "0")
	var made harness.Account
	for _, a := range accounts {
		if strings.HasSuffix(a.Name, ":jwt-alice") {
			made = a
		}
	}
	if len(accounts) != 2 || made.Balance != 920_000 { // the provider's is the other account
		t.Fatalf("accounts %+v", accounts)
	}
	if charges := g.Charges(t, made.ID); len(charges) != 8 {
		t.Errorf("%d charges", len(charges))
	}
	var charges []struct {
		Key string `json:"key"`
	}
	g.CLI(t, &charges, "charge", "list", "--account", made.ID, "--limit", "1")
	if len(charges) != 1 || !strings.HasPrefix(charges[0].Key, "jwt-alice@127.0.0.1.") {
		t.Errorf("the key of a charge: %+v", charges)
	}
	g.CLI(t, &charges, "charge", "list", "--key", charges[0].Key, "--limit", "0")
	if len(charges) != 8 {
		t.Errorf("%d charges of the subject", len(charges))
	}
	var usage any
	g.CLI(t, &usage, "usage", "--group", "key")
	if !strings.Contains(fmt.Sprint(usage), "sub_") {
		t.Errorf("usage by key: %v", usage)
	}
	g.CLI(t, nil, "ledger", "verify")

	refused := map[string]string{
		"another audience": issuer.Token("jwt-bob", "https://mcp.example.com/maps/mcp"),
		"changed":          token[:len(token)-8] + "AAAAAAAA",
		"without its end":  token[:len(token)-1],
		"an opaque token":  issuer.Token("bob", issuerAudience),
	}
	for name, token := range refused {
		g.AddSecret(token)
		answer := forecastBy(t, g, token)
		if answer.Status != http.StatusUnauthorized || !strings.Contains(answer.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	if answer, err := g.Post(t.Context(), http.DefaultClient, token, harness.ToolCall(1, "list_cities", `{}`)); err != nil || answer.Message.Code() != "SCOPE_INSUFFICIENT" {
		t.Errorf("without the scope: %+v, %v", answer, err)
	}
	_, key := g.NewAgent(t, "carol", "1.00")
	if answer := forecastBy(t, g, key.Secret); answer.Message.Code() != "" {
		t.Errorf("a stored key: %s", answer.Body)
	}

	issuer.Rotate()
	harness.Eventually(t, "a token of the new key is accepted", func() error { // keys are fetched once in ten seconds
		if answer := forecastBy(t, g, issuer.Token("jwt-alice", issuerAudience, "cities.read")); answer.Status != http.StatusOK {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
	if a := g.Account(t, made.ID); a.Balance != made.Balance-ledger.Unit/100 {
		t.Errorf("the balance after the rotation is %s", a.Balance)
	}
}

// TestIssuerOverReloads checks that a reload keeps the keys of an issuer, also while the issuer
// is down, and that a reload without the issuer ends its tokens.
func TestIssuerOverReloads(t *testing.T) {
	issuer := startIssuer(t)
	upstream := binaries.StartWeather(t, "-stateless")
	site := func(lines ...string) string {
		return trusting(upstream, issuer, append(lines, "account sub", "create credit 1.00")...)
	}
	g := binaries.StartGateway(t, site())
	token := issuer.Token("jwt-alice", issuerAudience)
	g.AddSecret(token)
	if answer := forecastBy(t, g, token); answer.Message.Code() != "" {
		t.Fatal(answer.Body)
	}
	issuer.Kill()
	if status, text := reload(t, g, site("cap day 0.02")); status != http.StatusOK {
		t.Fatal(text)
	}
	for i, want := range []string{"", "SPENDING_CAP"} { // the first call counts, too
		if answer := postAfterReload(t, g, token, oneForecast); answer.Message.Code() != want {
			t.Errorf("call %d after the reload: %s", i, answer.Body)
		}
	}
	if status, text := reload(t, g, harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01")); status != http.StatusOK {
		t.Fatal(text)
	}
	if answer := postAfterReload(t, g, token, oneForecast); answer.Status != http.StatusUnauthorized {
		t.Errorf("without the issuer: %d %s", answer.Status, answer.Body)
	}
}

// TestIssuerDown checks that a token is refused with 503 while its issuer cannot be reached,
// that nothing is charged, that stored keys go on, and that the token is good as soon as the
// issuer is back. A valid token without an account gets 403.
func TestIssuerDown(t *testing.T) {
	issuer := startIssuer(t)
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, trusting(upstream, issuer, "account sub"))
	g.CLI(t, nil, "account", "create", "alice")
	_, key := g.NewAgent(t, "carol", "1.00")
	token := issuer.Token("jwt-alice", issuerAudience)
	g.AddSecret(token)
	issuer.Kill()
	answer := forecastBy(t, g, token)
	if answer.Message.Code() != "STORE_UNAVAILABLE" || answer.Status == http.StatusUnauthorized {
		t.Errorf("the issuer is down: %d %s", answer.Status, answer.Body)
	}
	if answer := forecastBy(t, g, key.Secret); answer.Message.Code() != "" {
		t.Errorf("a stored key: %s", answer.Body)
	}
	issuer.Start() // with a new key
	token = issuer.Token("jwt-alice", issuerAudience)
	g.AddSecret(token)
	harness.Eventually(t, "the issuer's keys are fetched", func() error {
		if answer = forecastBy(t, g, token); answer.Message.Code() != "ACCOUNT_UNKNOWN" {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
	if answer.Status != http.StatusForbidden || answer.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("without an account: %d %s", answer.Status, answer.Body)
	}
}

// TestIssuerIntrospection checks opaque tokens: they are asked about, pay, and are refused
// some time after they were revoked.
func TestIssuerIntrospection(t *testing.T) {
	issuer := startIssuer(t)
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, trusting(upstream, issuer,
		`account cel "claims.sub + '-of-acme'"`, "create credit 0.05", "cap day 0.02",
		"introspection "+issuer.URL+"oauth/introspect "+harness.IssuerClient+" {env.IDP_SECRET}"), "IDP_SECRET="+harness.IssuerSecret)
	token := issuer.Token("bob", issuerAudience, "cities.read")
	g.AddSecret(token)
	for i, want := range []string{"", "", "SPENDING_CAP"} {
		if answer := forecastBy(t, g, token); answer.Message.Code() != want {
			t.Errorf("call %d: %s", i, answer.Body)
		}
	}
	issuer.Revoke(token)
	harness.Eventually(t, "the revoked token is refused", func() error {
		if answer := forecastBy(t, g, token); answer.Status != http.StatusUnauthorized {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
}

// TestIssuerOnTwoNodes checks that parallel first calls of subjects at two gateways with one
// database make one account for each subject, with one starting credit, and that each call
// is charged once.
func TestIssuerOnTwoNodes(t *testing.T) {
	issuer := startIssuer(t)
	upstream := binaries.StartWeather(t, "-stateless")
	text := harness.OnPostgres(trusting(upstream, issuer, "account sub", "create credit 1.00"))
	c := binaries.StartCluster(t, 2, postgres.Database(t, func(context.Context, string) error { return nil }), text)
	const subjects, each = 5, 8
	var calls sync.WaitGroup
	for n := range subjects {
		token := issuer.Token(fmt.Sprintf("jwt-agent%d", n), issuerAudience)
		for i := range each {
			calls.Go(func() {
				if answer := forecastBy(t, c.Nodes[i%2], token); answer.Message.Code() != "" || answer.Status != http.StatusOK {
					t.Errorf("a first call: %d %s", answer.Status, answer.Body)
				}
			})
		}
	}
	calls.Wait()
	var accounts []harness.Account
	c.Nodes[0].CLI(t, &accounts, "account", "list", "--limit", "0")
	made := 0
	for _, a := range accounts {
		if !strings.Contains(a.Name, ":jwt-agent") {
			continue
		}
		if made++; a.Balance != ledger.Unit-each*ledger.Unit/100 {
			t.Errorf("%s has %s", a.Name, a.Balance)
		}
	}
	if made != subjects || len(accounts) != subjects+1 {
		t.Errorf("accounts %+v", accounts)
	}
	c.Nodes[0].CLI(t, nil, "ledger", "verify")
}
