package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// startGatewayOnly starts a platform, and a gateway that uses the platform instead of a
// store of its own. The gateway is in front of the server at the given base URL. The
// given functions change the Caddyfile of the gateway.
func startGatewayOnly(t *testing.T, upstream string, changes ...func(caddyfile string) string) (platform, gateway *harness.Gateway) {
	t.Helper()
	platform = binaries.StartGateway(t, strings.Replace(
		harness.Site(upstream, "server weather", "provider acme", "fee 10% operator"),
		"\thandle {\n", "\thandle /api/* {\n\t\tfarebox_platform\n\t}\n\thandle {\n", 1))
	key := platform.NewKey(t, "operator", "--kind", "gateway", "--server", "weather")
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(
		harness.Site(upstream, "server weather", "price get_forecast 0.01", "price read_station 0.02", "cap day 5.00"),
		"store sqlite {$FAREBOX_DATA}/farebox.db", "store remote http://localhost:"+platform.Port+" {file."+file+"}", 1)
	for _, change := range changes {
		config = change(config)
	}
	gateway = binaries.StartGateway(t, config)
	gateway.AddSecret(key.Secret)
	return platform, gateway
}

// TestGatewayWithoutAStore checks that a gateway without a store of its own charges
// through a platform. The platform decides which provider earns. A deleted key stops
// working as soon as the command that deletes it at the platform has returned. Paid
// calls are refused while the platform is down, and they succeed again when the
// platform is back.
func TestGatewayWithoutAStore(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	platform, gateway := startGatewayOnly(t, recorder.URL)
	alice, key := platform.NewAgent(t, "alice", "1.00")
	gateway.AddSecret(key.Secret)
	oslo := harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)

	answer := post(t, gateway, key.Secret, oslo)
	if answer.Status != http.StatusOK || answer.Result == nil || answer.Result.Meta.Charge == nil || answer.Result.Meta.Charge.Balance != amount(t, "0.99") {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	charges := platform.Charges(t, "alice")
	if len(charges) != 1 || charges[0].ID != answer.Result.Meta.Charge.ID || charges[0].Account != alice.ID || charges[0].Fee != amount(t, "0.001") {
		t.Errorf("charges %+v", charges)
	}
	for name, balance := range map[string]string{"alice": "0.99", "acme": "0.009", "operator": "0.001"} {
		if a := platform.Account(t, name); a.Balance != amount(t, balance) || a.Reserved != 0 {
			t.Errorf("%s has %s with %s reserved, want %s", name, a.Balance, a.Reserved, balance)
		}
	}
	keys := filepath.Join(gateway.Dir, "xdg-data", "caddy", "farebox", "receipt-keys.json")
	if _, output, err := verifyAlone(t, keys, answer.Result.Meta.Receipt); err != nil {
		t.Errorf("the receipt, by the gateway's own keys: %v: %s", err, output)
	}

	for _, args := range [][]string{{"account", "list"}, {"key", "create", "--account", "alice"}, {"credit", "alice", "1", "--reason", "x"}, {"account", "list", "--offline", "--config", "Caddyfile"}} {
		if out, err := gateway.Command(args...); err == nil || !strings.Contains(err.Error(), "this gateway has no store of its own: manage keys and accounts at the platform") {
			t.Errorf("%q: %s, %v", args, out, err)
		}
	}

	second := platform.NewKey(t, "alice")
	gateway.AddSecret(second.Secret)
	for range 3 {
		if answer := post(t, gateway, second.Secret, oslo); answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		platform.CLI(t, nil, "key", "delete", second.ID)
		if answer := post(t, gateway, second.Secret, oslo); answer.Status != http.StatusUnauthorized || answer.Code() != "TOKEN_INVALID" {
			t.Errorf("a deleted key: %d %s", answer.Status, answer.Body)
		}
		second = platform.NewKey(t, "alice")
		gateway.AddSecret(second.Secret)
	}

	platform.Stop(t)
	before := len(recorder.Requests())
	if answer := post(t, gateway, key.Secret, oslo); answer.Status != http.StatusOK || answer.Code() != "STORE_UNAVAILABLE" {
		t.Errorf("while the platform is down: %d %s", answer.Status, answer.Body)
	}
	if len(recorder.Requests()) != before {
		t.Error("the server received a request")
	}
	platform.Start(t)
	harness.Eventually(t, "calls to go on", func() error {
		answer, err := gateway.Post(t.Context(), http.DefaultClient, key.Secret, oslo)
		if err == nil && answer.Result == nil { // a refusal because of the store has status 200 as well
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
	if a := platform.Account(t, "alice"); a.Balance != amount(t, "0.95") || a.Reserved != 0 {
		t.Errorf("alice has %s with %s reserved", a.Balance, a.Reserved)
	}
	platform.VerifyLedger(t)
}

// TestCallOutlivesItsPlatform checks that, if the platform crashes and loses a call's
// reservation, the call is still charged when its answer comes. The gateway charges the
// call once and under the call's own id. The client sends a single request without a
// session. A client with an event stream would not do: it would try to reconnect the
// stream while the platform is down, and give up its session.
func TestCallOutlivesItsPlatform(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	platform, gateway := startGatewayOnly(t, recorder.URL)
	_, key := platform.NewAgent(t, "alice", "1.00")
	gateway.AddSecret(key.Secret)
	release := recorder.HoldAnswers()
	defer release()
	type outcome struct {
		answer *harness.Answer
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		answer, err := gateway.Post(t.Context(), http.DefaultClient, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
		done <- outcome{answer, err}
	}()
	harness.Eventually(t, "the call to reach the server", func() error {
		if recorder.Calls("get_forecast") == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if a := platform.Account(t, "alice"); a.Reserved != amount(t, "0.01") {
		t.Errorf("%s is reserved", a.Reserved)
	}
	platform.Kill()
	platform.Start(t)
	if a := platform.Account(t, "alice"); a.Reserved != 0 {
		t.Errorf("%s is reserved after the crash", a.Reserved)
	}
	harness.Eventually(t, "the gateway to find the platform", func() error { // the gateway's circuit breaker may still be open
		if up := gateway.Metrics(t)["farebox_store_up"]; up != 1 {
			return fmt.Errorf("it is at %v", up)
		}
		return nil
	})
	release()
	got := <-done
	if got.err != nil || got.answer.Result == nil || got.answer.Result.IsError {
		t.Fatalf("%+v, %v", got.answer, got.err)
	}
	paid := got.answer.Result.Meta.Charge
	charges := platform.Charges(t, "alice")
	if paid == nil || len(charges) != 1 || charges[0].ID != paid.ID || charges[0].State != "captured" {
		t.Errorf("paid %+v, charges %+v", paid, charges)
	}
	if a := platform.Account(t, "alice"); a.Balance != amount(t, "0.99") || a.Reserved != 0 {
		t.Errorf("alice has %s with %s reserved", a.Balance, a.Reserved)
	}
	platform.VerifyLedger(t)
}
