package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// TestDefaults checks that the program's default addresses are those in the
// Caddyfiles. The addresses of the second gateway are in the comment at the head of
// the Caddyfile.
func TestDefaults(t *testing.T) {
	o := options{}
	o.fromEnvironment(func(string) string { return "" })
	for file, wants := range map[string][]string{
		"Caddyfile": {
			"{$FAREBOX_PORT:" + o.nodes[0].port + "}", "{$CADDY_ADMIN:" + o.nodes[0].admin + "}", "{$WEATHER_PORT:" + o.weatherPort + "}",
			"FAREBOX_PORT=" + o.nodes[1].port + " CADDY_ADMIN='" + o.nodes[1].admin + "' bin/farebox run --config examples/postgres/Caddyfile\n",
			"make " + target + "\n",
		},
		"balancer.Caddyfile": {"{$BALANCER_PORT:" + o.port + "}", "{$NODE1_PORT:" + o.nodes[0].port + "}", "{$NODE2_PORT:" + o.nodes[1].port + "}"},
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
		return map[string]string{"BALANCER_PORT": busy, "NODE1_PORT": busy, "NODE2_PORT": "x", "WEATHER_PORT": "0", "NODE1_ADMIN": "127.0.0.1:" + busy, "NODE2_ADMIN": "unix//run/caddy.sock"}[variable]
	})
	err = o.check()
	for _, want := range []string{
		`/no/farebox: no such file or directory: "make build" makes it`, "/no/weather", filepath.Join(o.configs, "Caddyfile"), "balancer.Caddyfile",
		"port " + busy + " is not free: stop what listens there, or choose another, as in BALANCER_PORT=18080 make run-postgres",
		"NODE1_PORT=18081 make run-postgres", `NODE2_PORT: "x" is not a port`, `WEATHER_PORT: "0" is not a port`, "NODE1_ADMIN=localhost:12019 make run-postgres",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want it to say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "NODE2_ADMIN") {
		t.Errorf("got %v; want no port asked of a socket", err)
	}
}
