package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBusyPortIsNamed: when a port is taken, the message has the port and what
// to set to use another one, for each of the three.
func TestBusyPortIsNamed(t *testing.T) {
	var busy []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		busy = append(busy, port)
	}
	here := file(t, "")
	o := options{
		farebox: here, weather: here, config: here,
		port: busy[0], weatherPort: busy[1], admin: "127.0.0.1:" + busy[2],
	}
	err := o.check()
	for i, variable := range []string{"FAREBOX_PORT=18080", "WEATHER_PORT=13001", "CADDY_ADMIN=localhost:12019"} {
		want := "port " + busy[i] + " is not free: stop what listens there, or choose another, as in " + variable + " make run"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want it to say %q", err, want)
		}
	}
}

// TestOptionsAreChecked: what cannot work is refused before anything starts.
func TestOptionsAreChecked(t *testing.T) {
	o := options{farebox: "/no/farebox", weather: "/no/weather", config: "/no/config", admin: "unix//run/caddy.sock"}
	o.fromEnvironment(func(name string) string {
		return map[string]string{"FAREBOX_PORT": "http", "WEATHER_PORT": "70000", "CADDY_ADMIN": "unix//run/caddy.sock"}[name]
	})
	err := o.check()
	for _, want := range []string{
		`/no/farebox: no such file or directory: "make build" makes it`, "/no/weather", "/no/config",
		`FAREBOX_PORT: "http" is not a port`, `WEATHER_PORT: "70000" is not a port`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want it to say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "CADDY_ADMIN") {
		t.Errorf("got %v; want no port asked of a socket", err)
	}
}

// TestDefaults: with no environment the addresses are those of the Caddyfile.
func TestDefaults(t *testing.T) {
	o := options{}
	o.fromEnvironment(func(string) string { return "" })
	config, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"{$FAREBOX_PORT:" + o.port + "}", "{$WEATHER_PORT:" + o.weatherPort + "}",
		"{$CADDY_ADMIN:" + o.admin + "}", "{$FAREBOX_DATA:" + o.data + "}",
	} {
		if !bytes.Contains(config, []byte(want)) {
			t.Errorf("the Caddyfile has no %s", want)
		}
	}
}

// TestBalancesCompareExactly: decimals are compared as numbers, not as text or
// floats.
func TestBalancesCompareExactly(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"0.99", "1.00", true}, {"1.00", "1", false}, {"10.00", "9.00", false}, {"-1.00", "0.00", true}, {"0.999999", "1", true}} {
		if got, err := less(c.a, c.b); err != nil || got != c.want {
			t.Errorf("less(%s, %s): got %t, %v; want %t", c.a, c.b, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"", "1"}, {"1", "many"}} {
		if _, err := less(c[0], c[1]); err == nil {
			t.Errorf("less(%q, %q): got no error", c[0], c[1])
		}
	}
}

// TestCreditsAreToppedUpOnlyWhenLow: an account with enough is left as it is.
func TestCreditsAreToppedUpOnlyWhenLow(t *testing.T) {
	for balance, credits := range map[string]int{"0.99": 1, "1.00": 0} {
		log := file(t, "")
		o := operator{binary: file(t, "#!/bin/sh\necho \"$*\" >>"+log+"\necho '{\"id\":\"acct_1\",\"test_balance\":\""+balance+"\"}'\n"), admin: "here:1"}
		if _, err := o.ensureCredits(t.Context(), "demo"); err != nil {
			t.Fatal(err)
		}
		ran, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(ran), "farebox credit demo 5.00 --test --reason quickstart --json --address here:1"); got != credits {
			t.Errorf("balance %s: ran\n%swant %d credits", balance, ran, credits)
		}
	}
}

// TestCommandErrorsAreShown: what a failed command said reaches the user, and
// an answer that is no JSON is an error.
func TestCommandErrorsAreShown(t *testing.T) {
	o := operator{binary: file(t, "#!/bin/sh\necho no such account >&2\nexit 1\n")}
	if err := o.ensureAccount(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "farebox account create: exit status 1: no such account") {
		t.Errorf("got %v", err)
	}
	o = operator{binary: file(t, "#!/bin/sh\necho hello\n")}
	if _, err := o.newKey(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "farebox key create") {
		t.Errorf("got %v", err)
	}
}

// TestUnpaidResultIsNoticed: a result without a charge and a receipt is an
// error, never a quiet success.
func TestUnpaidResultIsNoticed(t *testing.T) {
	paid := mcp.Meta{metaCharge: map[string]any{"id": "chg_1", "amount": "0.01", "currency": "USD"}, metaReceipt: "a.b.c"}
	call, err := readMeta("sun", paid)
	if err != nil || call.charge != (charge{"chg_1", "0.01", "USD"}) || call.receipt != "a.b.c" {
		t.Errorf("got %+v, %v", call, err)
	}
	for name, meta := range map[string]mcp.Meta{
		"nothing": nil, "no receipt": {metaCharge: paid[metaCharge]}, "no charge": {metaReceipt: "a.b.c"},
		"other form": {metaCharge: "chg_1", metaReceipt: "a.b.c"},
	} {
		if _, err := readMeta("sun", meta); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestReport: the report says what was called, what it cost, the balances, and
// the lines to paste; the receipt is shortened.
func TestReport(t *testing.T) {
	var out strings.Builder
	o := options{farebox: "bin/farebox", data: "data", port: "8081", admin: "localhost:2020"}
	report(&out, o, &demonstration{
		before: &account{TestBalance: "5.00"}, after: &account{ID: "acct_1", Name: "demo", TestBalance: "4.99"},
		key:  &key{Secret: "sk_test_1"},
		call: &paidCall{result: "snow\nwind", charge: charge{"chg_1", "0.01", "USD"}, receipt: strings.Repeat("x", 100)},
	})
	for _, want := range []string{
		"  result    snow\n            wind\n", "  charged   0.01 USD (chg_1)\n", "xxx...xxx", "(100 bytes)",
		"  balance   5.00 before, 4.99 after",
		`claude mcp add --transport http weather http://localhost:8081/mcp --header "Authorization: Bearer sk_test_1"`,
		"curl -sS http://localhost:8081/mcp \\\n", "charge list --account demo --address localhost:2020\n", "Ctrl-C ends all of it.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if shorten("abc") != "abc" {
		t.Error("a short text was changed")
	}
}

// TestBearerLeavesTheRequestAlone: the secret is added to a copy.
func TestBearerLeavesTheRequestAlone(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := bearer("s").RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	if got := req.Header.Get("Authorization"); got != "" {
		t.Errorf("the caller's request has %q", got)
	}
}
