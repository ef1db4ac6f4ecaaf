package main

import (
	"errors"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// options are the settings from the flags and the environment. The environment
// variables have the same names as in the Caddyfile.
type options struct {
	demo.Options
	config string

	port        string // the port of the gateway, from the variable FAREBOX_PORT
	weatherPort string // the port of the weather server, from the variable WEATHER_PORT
	admin       string // Caddy's admin address, from the variable CADDY_ADMIN
}

func (o *options) fromEnvironment(getenv func(string) string) {
	or := demo.Environment(getenv)
	if o.Data == "" {
		o.Data = or("FAREBOX_DATA", "data")
	}
	o.port = or("FAREBOX_PORT", "8080")
	o.weatherPort = or("WEATHER_PORT", "3001")
	o.admin = or("CADDY_ADMIN", demo.Socket(o.Data, "admin.sock"))
}

// endpoint returns the URL at which MCP clients reach the gateway.
func (o *options) endpoint() string { return "http://localhost:" + o.port + "/mcp" }

// console returns the URL of the console.
func (o *options) console() string { return "http://localhost:" + o.port + "/console" }

// environment returns the environment variables that the gateway gets in addition to
// those of this process.
func (o *options) environment() []string {
	return []string{
		"FAREBOX_DATA=" + o.DataPath(), "FAREBOX_PORT=" + o.port,
		"WEATHER_PORT=" + o.weatherPort, "CADDY_ADMIN=" + o.admin,
	}
}

// check reports all problems that would keep the servers from starting, each with a
// remedy.
func (o *options) check() error {
	return errors.Join(
		o.Check(o.config),
		demo.CheckPort("FAREBOX_PORT", "127.0.0.1", o.port, "18080", "run"),
		demo.CheckPort("WEATHER_PORT", "127.0.0.1", o.weatherPort, "13001", "run"),
		demo.CheckAddress("CADDY_ADMIN", o.admin, "localhost:12019", "run"))
}
