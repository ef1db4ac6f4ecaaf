package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBusyPortIsNamed checks the error for a port that is in use, for each of the three
// ports. The error names the port and the environment variable that sets another port.
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
		Options: demo.Options{Binaries: demo.Binaries{Farebox: here, Weather: here}}, config: here,
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

// TestOptionsAreChecked checks that unusable options are refused before any process
// starts.
func TestOptionsAreChecked(t *testing.T) {
	o := options{Options: demo.Options{Binaries: demo.Binaries{Farebox: "/no/farebox", Weather: "/no/weather"}}, config: "/no/config", admin: "unix//run/caddy.sock"}
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

// TestDefaults checks that the program's default addresses are those in the
// Caddyfile.
func TestDefaults(t *testing.T) {
	o := options{}
	o.fromEnvironment(func(string) string { return "" })
	config, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"{$FAREBOX_PORT:" + o.port + "}", "{$WEATHER_PORT:" + o.weatherPort + "}",
		"{$CADDY_ADMIN:" + o.admin + "}", "{$FAREBOX_DATA:" + o.Data + "}",
	} {
		if !bytes.Contains(config, []byte(want)) {
			t.Errorf("the Caddyfile has no %s", want)
		}
	}
}

// TestReport checks that the report has the result, the charge, the balances, and the
// commands to paste, and that the receipt is shortened.
func TestReport(t *testing.T) {
	var out strings.Builder
	o := options{Options: demo.Options{Binaries: demo.Binaries{Farebox: "bin/farebox"}, Data: "data"}, port: "8081", admin: "localhost:2020"}
	report(&out, o, &demonstration{
		before: &demo.Account{TestBalance: "5.00"}, after: &demo.Account{ID: "acct_1", Name: "demo", TestBalance: "4.99"},
		key:  &demo.Key{Secret: "sk_test_1"},
		call: &demo.PaidCall{Result: "snow\nwind", Charge: demo.Charge{ID: "chg_1", Amount: "0.01", Currency: "USD"}, Receipt: strings.Repeat("x", 100)},
	})
	for _, want := range []string{
		"  result    snow\n            wind\n", "  charged   0.01 USD (chg_1)\n", "xxx...xxx", "(100 bytes)",
		"  balance   5.00 before, 4.99 after",
		`claude mcp add --transport http weather http://localhost:8081/mcp --header "Authorization: Bearer sk_test_1"`,
		"curl -sS http://localhost:8081/mcp \\\n", "charge list --account demo --address 'localhost:2020'\n", "Ctrl-C ends all of it.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}
