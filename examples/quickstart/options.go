package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// options are what the flags and the environment say. The environment's names
// are those that the Caddyfile reads.
type options struct {
	farebox, weather, config, data string
	once                           bool

	port        string // of the gateway: FAREBOX_PORT
	weatherPort string // of the weather server: WEATHER_PORT
	admin       string // Caddy's admin address: CADDY_ADMIN
}

func (o *options) fromEnvironment(getenv func(string) string) {
	or := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	if o.data == "" {
		o.data = or("FAREBOX_DATA", "data")
	}
	o.port = or("FAREBOX_PORT", "8080")
	o.weatherPort = or("WEATHER_PORT", "3001")
	o.admin = or("CADDY_ADMIN", "localhost:2019")
}

// endpoint is where MCP clients find the gateway.
func (o *options) endpoint() string { return "http://localhost:" + o.port + "/mcp" }

// environment is what the gateway gets beside ours.
func (o *options) environment() []string {
	data, err := filepath.Abs(o.data)
	if err != nil {
		data = o.data
	}
	return []string{
		"FAREBOX_DATA=" + data, "FAREBOX_PORT=" + o.port,
		"WEATHER_PORT=" + o.weatherPort, "CADDY_ADMIN=" + o.admin,
	}
}

// check reports all that would keep the servers from starting, each with what
// to do about it.
func (o *options) check() error {
	var errs []error
	for _, binary := range []string{o.farebox, o.weather} {
		if _, err := os.Stat(binary); err != nil {
			errs = append(errs, fmt.Errorf("%w: \"make build\" makes it", err))
		}
	}
	if _, err := os.Stat(o.config); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs,
		checkPort("FAREBOX_PORT", "127.0.0.1", o.port, "18080"),
		checkPort("WEATHER_PORT", "127.0.0.1", o.weatherPort, "13001"))
	// Caddy's admin address may be a socket, which needs no port.
	if host, port, err := net.SplitHostPort(o.admin); err == nil {
		errs = append(errs, checkPort("CADDY_ADMIN", host, port, "localhost:12019"))
	}
	return errors.Join(errs...)
}

// checkPort reports whether we may listen there. Caddy shares ports between
// processes, so a second gateway would not notice the first by itself.
func checkPort(variable, host, port, example string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s: %q is not a port: want 1 to 65535", variable, port)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("port %s is not free: stop what listens there, or choose another, as in %s=%s make run", port, variable, example)
	}
	return listener.Close()
}
