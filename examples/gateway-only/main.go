// Command gateway-only, run by "make run-gateway-only", starts a Farebox platform,
// which keeps accounts, keys and charges, and a gateway without a store of its own
// beside a demonstration MCP server. It shows a paid call through the gateway, a
// charge by a server that charges by itself, and that a key deleted at the platform
// is dead at the gateway. Then it stays up until it is stopped, and ends all of its
// processes. It manages Farebox as an operator would: with the commands of the real
// binary.
//
// It runs on Unix systems.
package main

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

const (
	callTimeout = 30 * time.Second // how long the demonstration may take

	name        = "gateway-only"
	accountName = "demo"    // the agent's
	provider    = "acme"    // earns the charges according to platform.Caddyfile
	billing     = "billing" // the server that charges by itself
	keyLife     = "30d"
)

func main() {
	o := options{}
	o.AddFlags("the binary of the platform and of the gateway", "directory for the store, the gateway's keys and the logs (default gateway-only in $FAREBOX_DATA, else in data)")
	flag.StringVar(&o.configs, "configs", "examples/gateway-only", "directory of the Caddyfiles")
	flag.Parse()
	o.fromEnvironment(os.Getenv)
	demo.Main(name, func(ctx context.Context, out io.Writer) error { return run(ctx, o, out) })
}

// run does it all; when it returns, nothing that it started is running.
func run(ctx context.Context, o options, out io.Writer) error {
	return o.Run(ctx, o.check, func(servers *demo.Servers) error { return start(ctx, o, servers) }, func() error {
		d, err := demonstrate(ctx, o)
		if err != nil {
			return err
		}
		report(out, o, d)
		return nil
	})
}

// start starts the platform, makes a gateway key there, and starts the MCP server
// and the gateway with that key.
func start(ctx context.Context, o options, servers *demo.Servers) error {
	platform, err := servers.StartCaddy(ctx, "the platform", "platform.log",
		filepath.Join(o.configs, "platform.Caddyfile"), o.platform(), o.environment(o.platformAdmin))
	if err != nil {
		return err
	}
	// The store may open a moment after the listener, so the first command is
	// tried until it succeeds.
	err = platform.Await(ctx, func(ctx context.Context) error {
		return o.operator().EnsureAccount(ctx, accountName)
	})
	if err != nil {
		return err
	}
	key, err := o.operator().NewKey(ctx, provider, "--kind", "gateway", "--server", "weather", "--name", name, "--expires", keyLife)
	if err != nil {
		return err
	}
	if err := servers.StartWeather(ctx, o.weatherPort, "-stateless"); err != nil {
		return err
	}
	_, err = servers.StartCaddy(ctx, "the gateway", "gateway.log", filepath.Join(o.configs, "Caddyfile"), o.endpoint(),
		append(o.environment(o.admin), "FAREBOX_GATEWAY_KEY="+key.Secret))
	return err
}

// demonstrate pays in both ways, and then deletes the key that paid.
func demonstrate(ctx context.Context, o options) (*demonstration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	operator := o.operator()
	d := &demonstration{}
	var err error
	if d.before, err = operator.EnsureCredits(ctx, accountName, name); err != nil {
		return nil, err
	}
	if d.deleted, err = operator.NewKey(ctx, accountName, "--name", "first", "--expires", keyLife); err != nil {
		return nil, err
	}
	if d.call, err = demo.CallPaidTool(ctx, o.endpoint(), d.deleted.Secret); err != nil {
		return nil, err
	}
	charging, err := operator.NewKey(ctx, provider, "--kind", "provider", "--name", billing, "--expires", keyLife)
	if err != nil {
		return nil, err
	}
	if d.charge, err = postCharge(ctx, o.platform(), charging.Secret, d.deleted.Secret); err != nil {
		return nil, err
	}
	if err := operator.Run(ctx, nil, "key", "delete", d.deleted.ID); err != nil {
		return nil, err
	}
	if d.refusal, err = demo.Refusal(ctx, o.endpoint(), d.deleted.Secret); err != nil {
		return nil, err
	}
	if d.key, err = operator.NewKey(ctx, accountName, "--name", "second", "--expires", keyLife); err != nil {
		return nil, err
	}
	return d, d.readBooks(ctx, operator)
}
