package main

import (
	"errors"
	"path/filepath"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// target is the make target that runs this program.
const target = "run-gateway-only"

// options are the settings from the flags and the environment. The environment
// variables have the same names as in the Caddyfiles, except for those of the two admin
// addresses: PLATFORM_ADMIN sets the platform's admin address, and GATEWAY_ADMIN sets
// the gateway's.
type options struct {
	demo.Options
	configs string

	port          string // the port of the gateway, from the variable FAREBOX_PORT
	platformPort  string // the port of the platform, from the variable PLATFORM_PORT
	weatherPort   string // the port of the weather server, from the variable WEATHER_PORT
	admin         string
	platformAdmin string
}

func (o *options) fromEnvironment(getenv func(string) string) {
	or := demo.Environment(getenv)
	if o.Data == "" {
		o.Data = filepath.Join(or("FAREBOX_DATA", "data"), name)
	}
	o.port = or("FAREBOX_PORT", "8080")
	o.platformPort = or("PLATFORM_PORT", "8090")
	o.weatherPort = or("WEATHER_PORT", "3001")
	o.platformAdmin = or("PLATFORM_ADMIN", demo.Socket(o.Data, "platform-admin.sock"))
	o.admin = or("GATEWAY_ADMIN", demo.Socket(o.Data, "admin.sock"))
}

// endpoint returns the URL at which MCP clients reach the gateway.
func (o *options) endpoint() string { return "http://localhost:" + o.port + "/mcp" }

// platform returns the URL of the platform.
func (o *options) platform() string { return "http://localhost:" + o.platformPort }

// operator returns an operator that runs commands at the platform, because the
// gateway itself has no accounts and keys.
func (o *options) operator() demo.Operator {
	return demo.Operator{Binary: o.Farebox, Admin: o.platformAdmin}
}

// environment returns the environment variables that a server with the given admin
// address gets in addition to those of this process.
func (o *options) environment(admin string) []string {
	return []string{
		"FAREBOX_DATA=" + o.DataPath(), "FAREBOX_PORT=" + o.port, "PLATFORM_PORT=" + o.platformPort,
		"WEATHER_PORT=" + o.weatherPort, "CADDY_ADMIN=" + admin,
	}
}

// check reports all problems that would keep the servers from starting, each with a
// remedy.
func (o *options) check() error {
	return errors.Join(
		o.Check(filepath.Join(o.configs, "Caddyfile"), filepath.Join(o.configs, "platform.Caddyfile")),
		demo.CheckPort("FAREBOX_PORT", "127.0.0.1", o.port, "18080", target),
		demo.CheckPort("PLATFORM_PORT", "127.0.0.1", o.platformPort, "18090", target),
		demo.CheckPort("WEATHER_PORT", "127.0.0.1", o.weatherPort, "13001", target),
		demo.CheckAddress("PLATFORM_ADMIN", o.platformAdmin, "localhost:12019", target),
		demo.CheckAddress("GATEWAY_ADMIN", o.admin, "localhost:12020", target))
}
