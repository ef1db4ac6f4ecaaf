package cli

import (
	"errors"
	"io/fs"
	"testing"
)

// TestAdminAddress checks the order in which a command chooses the admin address:
// --address, then CADDY_ADMIN, which sets the default address, then the config. A
// config that a flag names must exist and be readable. The Caddyfile in the working
// directory may be missing or unreadable; then the default address is used.
func TestAdminAddress(t *testing.T) {
	host := testHost()
	host.AdminAddress = func(config []byte) (string, error) {
		if config == nil {
			return "the default", nil
		}
		return string(config), nil
	}
	configs := map[string]string{"named.json": "of named.json", "": "of the Caddyfile"}
	host.ReadConfig = func(file, _ string) ([]byte, error) {
		text, ok := configs[file]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
	check := func(c connection, want string) {
		t.Helper()
		c.host = host
		if got, err := c.adminAddress(); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	t.Setenv("CADDY_ADMIN", "")
	check(connection{address: "a flag", config: "named.json"}, "a flag")
	check(connection{config: "named.json"}, "of named.json")
	check(connection{}, "of the Caddyfile")
	c := connection{host: host, config: "missing.json"}
	if _, err := c.adminAddress(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing config: %v", err)
	}
	delete(configs, "")
	check(connection{}, "the default")
	t.Setenv("CADDY_ADMIN", "localhost:1")
	check(connection{config: "named.json"}, "the default")
	check(connection{address: "a flag"}, "a flag")
}
