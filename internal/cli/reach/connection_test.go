package reach

import (
	"errors"
	"io/fs"
	"testing"
)

// TestAdminAddress checks the order in which a command chooses the admin Address:
// --address, then CADDY_ADMIN, which sets the default address, then the config. A
// config that a flag names must exist and be readable. The Caddyfile in the working
// directory may be missing, and then the config of an installed package counts. If both
// files are missing, or the first file is unreadable, the default address is used.
func TestAdminAddress(t *testing.T) {
	var host Host
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
	check := func(c Connection, want string) {
		t.Helper()
		c.Host = host
		if got, err := c.AdminAddress(); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	t.Setenv("CADDY_ADMIN", "")
	check(Connection{Address: "a flag", Config: "named.json"}, "a flag")
	check(Connection{Config: "named.json"}, "of named.json")
	check(Connection{}, "of the Caddyfile")
	c := Connection{Host: host, Config: "missing.json"}
	if _, err := c.AdminAddress(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing Config: %v", err)
	}
	host.InstalledConfig, configs["installed"] = "installed", "of the package"
	check(Connection{}, "of the Caddyfile")
	delete(configs, "")
	check(Connection{}, "of the package")
	check(Connection{Config: "named.json"}, "of named.json")
	delete(configs, "installed")
	check(Connection{}, "the default")
	t.Setenv("CADDY_ADMIN", "localhost:1")
	check(Connection{Config: "named.json"}, "the default")
	check(Connection{Address: "a flag"}, "a flag")
}
