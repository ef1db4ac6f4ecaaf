package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// platformSite is a Caddyfile with an MCP server behind a gateway that charges for it,
// and with the platform's API. The API is under the path /api. It is also under the
// path /under, where the site strips the prefix.
const platformSite = `{
	admin {$CADDY_ADMIN}
	grace_period 1s
	log {
		level DEBUG
	}
	metrics
	farebox {
		store sqlite {$FAREBOX_DATA}/farebox.db
	}
}

http://localhost:{$FAREBOX_PORT} {
	bind 127.0.0.1
	log
	handle /mcp* {
		farebox {
			server weather
			provider acme
			price get_forecast 0.01
		}
		reverse_proxy 127.0.0.1:1
	}
	handle_path /under/* {
		farebox_platform
		respond "not the API"
	}
	handle /api/* {
		farebox_platform {
			server billing acme {
				fee 2.5% operator
			}
			server mail other
		}
	}
	handle {
		error 404
	}
}
`

// apiAnswer is a response of the API, either a charge or a problem.
type apiAnswer struct {
	Status int `json:"-"`

	ID      string        `json:"id"`
	Amount  ledger.Amount `json:"amount"`
	Balance ledger.Amount `json:"balance"`
	Receipt string        `json:"receipt"`

	Code  string `json:"code"`
	Title string `json:"title"`
	Field string `json:"field"`
}

// callAPI sends a request to this path of the site.
func callAPI(t *testing.T, g *harness.Gateway, secret, method, path, body string, headers ...string) (answer apiAnswer, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost:"+g.Port+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(read, []byte("{")) {
		if err := json.Unmarshal(read, &answer); err != nil {
			t.Fatalf("%s: %v", read, err)
		}
	}
	answer.Status = response.StatusCode
	return answer, string(read)
}

// TestProvidersCharge checks that a server that charges through the API uses a provider
// key, can charge only for its own servers, and gets a receipt. A retry after a crash
// gets the stored outcome. Keys of other kinds are refused.
func TestProvidersCharge(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, platformSite)
	_, agent := g.NewAgent(t, "alice", "5.00")
	acme, other := g.NewKey(t, "acme", "--kind", "provider"), g.NewKey(t, "other", "--kind", "provider")
	test := g.NewKey(t, "alice", "--test")
	charge := func(by, token, server string, headers ...string) apiAnswer {
		t.Helper()
		body := fmt.Sprintf(`{"token":%q,"server":%q,"tool":"invoice","amount":"0.10"}`, token, server)
		a, _ := callAPI(t, g, by, "POST", "/api/v1/charge", body, headers...)
		return a
	}
	first := charge(acme.Secret, agent.Secret, "billing", "Idempotency-Key", "order-1")
	if first.Status != 200 || first.Amount != 100_000 || first.Balance != 4_900_000 || first.ID == "" || first.Receipt == "" {
		t.Fatalf("%+v", first)
	}
	g.Kill()
	g.Start(t)
	if again := charge(acme.Secret, agent.Secret, "billing", "Idempotency-Key", "order-1"); again != first {
		t.Errorf("%+v after a crash, %+v before", again, first)
	}
	if a := charge(acme.Secret, agent.Secret, "weather"); a.Status != 200 { // "weather" is declared by the farebox handler, not by farebox_platform
		t.Errorf("%+v", a)
	}
	for _, c := range []struct {
		name  string
		got   apiAnswer
		code  string
		title string
	}{
		{"conflict", charge(acme.Secret, agent.Secret, "mail", "Idempotency-Key", "order-1"), "TOKEN_INVALID", "Invalid provider key"},
		{"content", charge(acme.Secret, agent.Secret, "weather", "Idempotency-Key", "order-1"), "CONFLICT", ""},
		{"rival", charge(other.Secret, agent.Secret, "billing"), "TOKEN_INVALID", "Invalid provider key"},
		{"nobody", charge("", agent.Secret, "billing"), "TOKEN_INVALID", "Invalid provider key"},
		{"agent", charge(agent.Secret, agent.Secret, "billing"), "KIND_WRONG", ""},
		{"environment", charge(acme.Secret, test.Secret, "weather"), "TOKEN_INVALID", "Invalid agent token"},
		{"no test money", charge(acme.Secret, test.Secret, "billing"), "INSUFFICIENT_BALANCE", ""},
	} {
		if c.got.Code != c.code || c.title != "" && c.got.Title != c.title {
			t.Errorf("%s: %+v", c.name, c.got)
		}
	}
	if a := g.Account(t, "acme"); a.Balance != 197_500 {
		t.Errorf("acme has %s", a.Balance)
	}
	if a := g.Account(t, "operator"); a.Balance != 2_500 {
		t.Errorf("operator has %s", a.Balance)
	}
	g.VerifyLedger(t)
	if n := g.Metrics(t)[`farebox_charges_total{environment="live",result="captured",server="weather",tool="other"}`]; n != 1 {
		t.Errorf("%v charges are counted", n)
	}
	g.CLI(t, nil, "key", "delete", acme.ID)
	if a := charge(acme.Secret, agent.Secret, "billing"); a.Status != 401 {
		t.Errorf("with a deleted key: %+v", a)
	}
}

// TestAPIDescribesItself checks that the API serves its OpenAPI description and its
// documentation page without a key, even where the site strips a prefix. Requests to
// paths outside the API go to the next handler.
func TestAPIDescribesItself(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, platformSite)
	for _, prefix := range []string{"", "/under"} {
		if a, text := callAPI(t, g, "", "GET", prefix+"/api/v1/docs", ""); a.Status != 200 || !strings.Contains(text, "<h1>Farebox platform</h1>") {
			t.Errorf("%q: %d %.300s", prefix, a.Status, text)
		}
		if a, text := callAPI(t, g, "", "GET", prefix+"/api/v1/openapi.json", ""); a.Status != 200 || !strings.Contains(text, `"openapi": "3.1`) {
			t.Errorf("%q: %d %.300s", prefix, a.Status, text)
		}
		if a, _ := callAPI(t, g, "", "GET", prefix+"/api/v1/nothing", ""); a.Status != 404 || a.Code != "NOT_FOUND" {
			t.Errorf("%q: %+v", prefix, a)
		}
	}
	if a, text := callAPI(t, g, "", "GET", "/under/api/v2/docs", ""); a.Status != 200 || text != "not the API" {
		t.Errorf("%d %s", a.Status, text)
	}
}

// TestStreamsOfTheAPIEnd checks that Farebox stops within the time limit, even while a
// gateway listens for revocations on an open stream.
func TestStreamsOfTheAPIEnd(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, platformSite)
	g.CLI(t, nil, "account", "create", "edge")
	key := g.NewKey(t, "edge", "--kind", "gateway", "--server", "billing")
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost:"+g.Port+"/api/v1/keys/revocations", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key.Secret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	first := make([]byte, 4)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "id: " {
		t.Fatalf("%q, %v", first, err)
	}
	g.Stop(t) // fails the test if the stop takes too long
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("the stream ended with an error: %v", err)
	}
}
