package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// TestDefaults checks that the program's default addresses are those in the
// Caddyfiles.
func TestDefaults(t *testing.T) {
	o := options{}
	o.fromEnvironment(func(string) string { return "" })
	for file, wants := range map[string][]string{
		"Caddyfile": {
			"{$FAREBOX_PORT:" + o.port + "}", "{$PLATFORM_PORT:" + o.platformPort + "}", "{$WEATHER_PORT:" + o.weatherPort + "}",
			"{$CADDY_ADMIN:" + o.admin + "}", "make " + target + "\n",
		},
		"platform.Caddyfile": {"{$PLATFORM_PORT:" + o.platformPort + "}", "{$CADDY_ADMIN:" + o.platformAdmin + "}", "server " + billing + " " + provider + " {"},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s has no %s", file, want)
			}
		}
	}
}

// TestOptionsAreChecked checks that each unusable option is refused, with a remedy,
// before any process starts.
func TestOptionsAreChecked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, busy, _ := net.SplitHostPort(l.Addr().String())
	o := options{Options: demo.Options{Binaries: demo.Binaries{Farebox: "/no/farebox", Weather: "/no/weather"}}, configs: t.TempDir()}
	o.fromEnvironment(func(variable string) string {
		return map[string]string{"FAREBOX_PORT": busy, "PLATFORM_PORT": busy, "WEATHER_PORT": "0", "PLATFORM_ADMIN": "127.0.0.1:" + busy, "GATEWAY_ADMIN": "127.0.0.1:" + busy}[variable]
	})
	err = o.check()
	for _, want := range []string{
		"/no/farebox", "/no/weather", filepath.Join(o.configs, "Caddyfile"), "platform.Caddyfile", `WEATHER_PORT: "0" is not a port`,
		"FAREBOX_PORT=18080 make run-gateway-only", "PLATFORM_PORT=18090 make run-gateway-only",
		"PLATFORM_ADMIN=localhost:12019 make run-gateway-only", "GATEWAY_ADMIN=localhost:12020 make run-gateway-only",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want it to say %q", err, want)
		}
	}
}

// TestRefusedChargeIsShown checks that the error for a refused charge contains the
// platform's reason and no secrets. It also checks that a response that is not JSON
// is an error.
func TestRefusedChargeIsShown(t *testing.T) {
	status, body := http.StatusPaymentRequired, `{"code":"INSUFFICIENT_BALANCE"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	_, err := postCharge(t.Context(), server.URL, "sk_provider", "sk_agent")
	if err == nil || !strings.Contains(err.Error(), `402 Payment Required: {"code":"INSUFFICIENT_BALANCE"}`) || strings.Contains(err.Error(), "sk_") {
		t.Errorf("got %v", err)
	}
	status, body = http.StatusOK, "fine"
	if _, err := postCharge(t.Context(), server.URL, "sk_provider", "sk_agent"); err == nil {
		t.Error("an answer that is not JSON: got no error")
	}
}
