package caddymodule

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// socketAdvice is the advice in warnings about an admin endpoint that others can
// reach.
const socketAdvice = "write as a global option: admin unix//run/farebox/admin.sock|0600, in a directory that is there and is yours alone, or: admin off"

// warnOfAdmin logs a warning if users of the machine other than the user that runs the
// server can reach the config's admin endpoint. Such users could load a config that
// reads the store, its keys and the admin token. It also logs a warning if the
// directory for the endpoint's socket does not exist.
func (a *App) warnOfAdmin(ctx caddy.Context) {
	listen, on := adminListen(ctx)
	if !on {
		return
	}
	address, err := caddy.ParseNetworkAddress(listen)
	if err != nil {
		return // Caddy itself reports an invalid address
	}
	path, mode, _ := strings.Cut(address.Host, "|")
	switch {
	case !address.IsUnixNetwork():
		a.logger.Warn("any user and any program of this machine can take this gateway over: its admin endpoint is a TCP port, where a config can be loaded that reads the store, its keys and the admin token",
			"admin", listen, "advice", socketAdvice)
	case openToAll(mode):
		a.logger.Warn("any user of this machine can take this gateway over: the socket of its admin endpoint may be written to by all",
			"admin", path, "mode", mode, "advice", socketAdvice)
	}
	if dir := filepath.Dir(path); address.IsUnixNetwork() && path != "" && path[0] != '@' {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			a.logger.Warn("the server cannot start: the directory of the socket of its admin endpoint is not there",
				"admin", path, "directory", dir, "advice", "make it, for the server's user alone: mkdir -m 0700 "+dir)
		}
	}
}

// openToAll reports whether a socket's mode, in octal digits, allows everybody to
// write. An empty mode stands for Caddy's default, 0200.
func openToAll(mode string) bool {
	return mode != "" && strings.ContainsRune("2367", rune(mode[len(mode)-1]))
}

// adminListen returns the address of the admin endpoint of the config that is being
// provisioned. Caddy does not pass the address to modules, so it is read from the
// Context by reflection. If a new version of Caddy moves the address, TestAdminListen
// fails. The second result is false if the config has no admin endpoint or the
// reflection fails.
func adminListen(ctx caddy.Context) (listen string, on bool) {
	config := reflect.Indirect(reflect.ValueOf(ctx).FieldByName("cfg"))
	if !config.IsValid() || !config.FieldByName("Admin").IsValid() {
		return "", false
	}
	admin := reflect.Indirect(config.FieldByName("Admin"))
	if admin.IsValid() {
		if disabled := admin.FieldByName("Disabled"); !disabled.IsValid() || disabled.Bool() {
			return "", false
		}
		if field := admin.FieldByName("Listen"); field.IsValid() {
			listen = caddy.NewReplacer().ReplaceKnown(field.String(), "")
		}
	}
	if listen == "" {
		listen = caddy.DefaultAdminListen
	}
	return listen, true
}
