package caddymodule

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// adminTeller is an app that records the admin endpoint of its config.
type adminTeller struct{}

var told struct {
	listen string
	on     bool
	warned string
}

func (adminTeller) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin_teller", New: func() caddy.Module { return new(adminTeller) }}
}

func (adminTeller) Provision(ctx caddy.Context) error {
	var log bytes.Buffer
	a := App{logger: slog.New(slog.NewTextHandler(&log, nil))}
	a.warnOfAdmin(ctx)
	told.listen, told.on = adminListen(ctx)
	told.warned = log.String()
	return nil
}

func (adminTeller) Start() error { return nil }
func (adminTeller) Stop() error  { return nil }

// TestAdminListen checks that provisioning a config logs a warning if other users of
// the machine can take the gateway over by its admin endpoint.
func TestAdminListen(t *testing.T) {
	caddy.RegisterModule(adminTeller{})
	for _, c := range []struct {
		admin  string
		listen string
		on     bool
		warns  string
	}{
		{`{"listen": "localhost:2999"}`, "localhost:2999", true, "is a TCP port"},
		{`{}`, caddy.DefaultAdminListen, true, "is a TCP port"},
		{`null`, caddy.DefaultAdminListen, true, "is a TCP port"},
		{`{"listen": "unix//run/a.sock|0600"}`, "unix//run/a.sock|0600", true, ""},
		{`{"listen": "unix//run/a.sock"}`, "unix//run/a.sock", true, ""},
		{`{"listen": "unix//run/a.sock|0666"}`, "unix//run/a.sock|0666", true, "written to by all"},
		{`{"disabled": true}`, "", false, ""},
	} {
		config := `{"admin": ` + c.admin + `, "apps": {"admin_teller": {}}}`
		var parsed caddy.Config
		if err := caddy.StrictUnmarshalJSON([]byte(config), &parsed); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(&parsed); err != nil {
			t.Fatal(err)
		}
		warned := strings.Contains(told.warned, "level=WARN") && strings.Contains(told.warned, c.warns)
		if told.listen != c.listen || told.on != c.on || warned != (c.warns != "") {
			t.Errorf("%s: %+v, want %+v", c.admin, told, c)
		}
	}
}

// TestCommandsFindTheAdminSocket checks that the commands find the server by the admin
// address in the config file, or by Caddy's default address if the file names none.
func TestCommandsFindTheAdminSocket(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("CADDY_ADMIN", "")
	for file, text := range map[string]string{
		"Caddyfile": "{\n\tadmin unix/data/admin.sock|0600\n}\n", "other.Caddyfile": "{\n\tadmin localhost:2999\n}\n",
		"c.json": `{"admin": {"listen": "unix//run/c.sock"}}`, "plain.Caddyfile": ":8080\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{
		"":                "unix/data/admin.sock|0600",
		"other.Caddyfile": "localhost:2999",
		"c.json":          "unix//run/c.sock",
		"plain.Caddyfile": caddy.DefaultAdminListen,
	} {
		config, err := readConfig(file, "")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := adminAddress(config); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
	if _, err := readConfig("none.json", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing config: %v", err)
	}
	if got, err := adminAddress(nil); err != nil || got != caddy.DefaultAdminListen {
		t.Errorf("without a config: %q, %v", got, err)
	}
}

// TestSplitAddress checks that admin addresses are dialed as Caddy listens on them:
// on a TCP port or a unix socket. The path of a socket does not include its mode.
func TestSplitAddress(t *testing.T) {
	for address, want := range map[string][3]string{
		"localhost:2019":        {"tcp", "localhost:2019", "localhost:2019"},
		"[::1]:2019":            {"tcp", "[::1]:2019", "[::1]:2019"},
		"unix//run/admin.sock":  {"unix", "/run/admin.sock", "127.0.0.1"},
		"unix/data/a.sock|0600": {"unix", "data/a.sock", "127.0.0.1"},
		"localhost:2019-2020":   {},
		"udp/localhost:2019":    {},
	} {
		network, target, host, err := splitAddress(address)
		if got := [3]string{network, target, host}; got != want || (err != nil) != (want == [3]string{}) {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}
