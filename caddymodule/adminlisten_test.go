package caddymodule

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// adminTeller tells what the config that provisions it has for an admin endpoint.
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

// An admin endpoint by which other users of the machine can take the gateway
// over is warned of, when a config is validated and when it starts.
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

// The commands find the server by the config that names its socket.
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
	for _, c := range []struct {
		from connection
		want string
	}{
		{connection{}, "unix/data/admin.sock|0600"},
		{connection{address: "localhost:1"}, "localhost:1"},
		{connection{config: "other.Caddyfile"}, "localhost:2999"},
		{connection{config: "c.json"}, "unix//run/c.sock"},
		{connection{config: "plain.Caddyfile"}, caddy.DefaultAdminListen},
	} {
		if got, err := c.from.adminAddress(); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.from, got, err, c.want)
		}
	}
	if _, err := (&connection{config: "none.json"}).adminAddress(); err == nil {
		t.Error("a config that is not there is no error")
	}
	if err := os.Remove("Caddyfile"); err != nil {
		t.Fatal(err)
	}
	if got, err := new(connection).adminAddress(); err != nil || got != caddy.DefaultAdminListen {
		t.Errorf("without a config: %q, %v", got, err)
	}
}
