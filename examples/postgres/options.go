package main

import (
	"errors"
	"path/filepath"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// target is the make target that runs this program.
const target = "run-postgres"

// node is a gateway.
type node struct {
	port  string
	admin string // Caddy's admin address
}

func (n node) address() string { return "localhost:" + n.port }

// endpoint returns the URL at which MCP clients reach this gateway directly.
func (n node) endpoint() string { return "http://" + n.address() + "/mcp" }

// options are the settings from the flags and the environment.
type options struct {
	demo.Options
	configs string

	port        string  // the port of the balancer, from the variable BALANCER_PORT
	weatherPort string  // the port of the weather server, from the variable WEATHER_PORT
	nodes       [2]node // the gateways, from the variables NODE1_PORT, NODE1_ADMIN, NODE2_PORT and NODE2_ADMIN
}

func (o *options) fromEnvironment(getenv func(string) string) {
	or := demo.Environment(getenv)
	if o.Data == "" {
		o.Data = filepath.Join(or("FAREBOX_DATA", "data"), name)
	}
	o.port = or("BALANCER_PORT", "8080")
	o.weatherPort = or("WEATHER_PORT", "3001")
	o.nodes = [2]node{
		{port: or("NODE1_PORT", "8081"), admin: or("NODE1_ADMIN", demo.Socket(o.Data, "node1-admin.sock"))},
		{port: or("NODE2_PORT", "8082"), admin: or("NODE2_ADMIN", demo.Socket(o.Data, "node2-admin.sock"))},
	}
}

// endpoint returns the URL at which MCP clients reach the gateways through the
// balancer.
func (o *options) endpoint() string { return "http://localhost:" + o.port + "/mcp" }

func (o *options) operator(n node) demo.Operator {
	return demo.Operator{Binary: o.Farebox, Admin: n.admin}
}

// environment returns the environment variables that a gateway gets in addition to
// those of this process.
func (o *options) environment(n node, dsn string) []string {
	return []string{
		"FAREBOX_DSN=" + dsn, "FAREBOX_DATA=" + o.DataPath(), "FAREBOX_PORT=" + n.port,
		"WEATHER_PORT=" + o.weatherPort, "CADDY_ADMIN=" + n.admin,
	}
}

// balancer returns the environment variables that the balancer gets in addition to
// those of this process.
func (o *options) balancer() []string {
	return []string{"BALANCER_PORT=" + o.port, "NODE1_PORT=" + o.nodes[0].port, "NODE2_PORT=" + o.nodes[1].port}
}

// check reports all problems that would keep the servers from starting, each with a
// remedy.
func (o *options) check() error {
	return errors.Join(
		o.Check(filepath.Join(o.configs, "Caddyfile"), filepath.Join(o.configs, "balancer.Caddyfile")),
		demo.CheckPort("BALANCER_PORT", "127.0.0.1", o.port, "18080", target),
		demo.CheckPort("NODE1_PORT", "127.0.0.1", o.nodes[0].port, "18081", target),
		demo.CheckPort("NODE2_PORT", "127.0.0.1", o.nodes[1].port, "18082", target),
		demo.CheckPort("WEATHER_PORT", "127.0.0.1", o.weatherPort, "13001", target),
		demo.CheckAddress("NODE1_ADMIN", o.nodes[0].admin, "localhost:12019", target),
		demo.CheckAddress("NODE2_ADMIN", o.nodes[1].admin, "localhost:12020", target))
}
