package integration

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestReceiptsAreCheckedOffline checks that the receipt of a paid call verifies with
// the public keys alone, after the server has stopped and on a machine without its
// data. A receipt with a changed bit fails verification. A receipt still verifies after
// the private key was replaced.
func TestReceiptsAreCheckedOffline(t *testing.T) {
	t.Parallel()
	gateway := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"),
		"server weather", "provider acme", "price get_forecast 0.01"))
	account, key := gateway.NewAgent(t, "alice", "5.00")
	pay := func() (receipt string) {
		t.Helper()
		answer, err := gateway.Post(t.Context(), http.DefaultClient, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Result == nil || answer.Result.Meta.Receipt == "" {
			t.Fatalf("no receipt in %s", answer.Body)
		}
		return answer.Result.Meta.Receipt
	}
	private := filepath.Join(gateway.Data(), "farebox.db.receipt-key")

	first := pay()
	firstKeys := takeKeys(t, gateway)
	gateway.Stop(t)
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	gateway.Start(t)
	second := pay()
	bothKeys := takeKeys(t, gateway)
	charges := gateway.Charges(t, "alice")
	gateway.Stop(t)

	for i, receipt := range []string{second, first} { // charges are listed newest first
		shown, output, err := verifyAlone(t, bothKeys, receipt)
		if err != nil {
			t.Fatalf("receipt %q: %v: %s", receipt, err, output)
		}
		if c := charges[i]; shown.Charge != c.ID || shown.Payer != account.ID || shown.Server != c.Server || shown.Tool != c.Tool ||
			shown.Amount != c.Amount.String() || shown.Currency != "USD" || shown.Environment != c.Environment {
			t.Errorf("got %+v; the charge is %+v", shown, c)
		}
	}
	if _, output, err := verifyAlone(t, firstKeys, first); err != nil {
		t.Errorf("with the public keys of its time: %v: %s", err, output)
	}
	if _, output, err := verifyAlone(t, firstKeys, second); err == nil || !strings.Contains(output, "unknown key") {
		t.Errorf("with public keys that lack the signing key: %v: %s", err, output)
	}
	for part := range 3 {
		forged := flipBit(t, first, part)
		if _, output, err := verifyAlone(t, bothKeys, forged); err == nil || !strings.Contains(output, "not a valid receipt") {
			t.Errorf("with a bit of part %d flipped: %v: %s", part+1, err, output)
		}
	}
}

// takeKeys makes a file with the public keys that an operator publishes.
func takeKeys(t *testing.T, gateway *harness.Gateway) (file string) {
	t.Helper()
	set, err := gateway.Command("receipt", "keys")
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// shownReceipt is the output of "receipt verify".
type shownReceipt struct {
	Charge, Payer, Server, Tool, Amount, Currency, Environment string
}

// verifyAlone verifies a receipt with only the binary and the file of public
// keys: no config, no data, no server.
func verifyAlone(t *testing.T, keys, receipt string) (shown shownReceipt, output string, err error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(binaries.Farebox, "farebox", "receipt", "verify", "--keys", keys, "--json")
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "CADDY_ADMIN=127.0.0.1:1", "GORACE=atexit_sleep_ms=0"}
	cmd.Stdin = strings.NewReader(receipt + "\n")
	text, err := cmd.CombinedOutput()
	if err == nil {
		err = json.Unmarshal(text, &shown)
	}
	return shown, string(text), err
}

// flipBit flips a bit in the middle of a part of a compact JWS.
func flipBit(t *testing.T, jws string, part int) string {
	t.Helper()
	parts := strings.Split(jws, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	parts[part] = base64.RawURLEncoding.EncodeToString(raw)
	return strings.Join(parts, ".")
}
