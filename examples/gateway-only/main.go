// Command gateway-only, run by "make run-gateway-only", starts a Farebox platform, a
// gateway, and a demonstration MCP server behind the gateway. The platform keeps the
// accounts, keys and charges. The gateway has no store of its own. The program shows
// a paid call through the gateway, and a charge by a server that charges by itself.
// It also shows that a key deleted at the platform no longer works at the gateway.
// The servers keep running until the program is stopped, which ends all of them. The
// program manages Farebox as an operator would, with the commands of the real
// binary.
//
// The program runs on Unix systems.
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
	callTimeout = 30 * time.Second // the time limit for the demonstration

	name        = "gateway-only"
	accountName = "demo"    // the account of the agent
	provider    = "acme"    // the account that earns the charges, as in platform.Caddyfile
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

// run runs the demonstration. All processes that it starts have ended when it
// returns.
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

// start starts the platform and makes a gateway key there. Then it starts the MCP
// server, and a gateway that uses the key.
func start(ctx context.Context, o options, servers *demo.Servers) error {
	platform, err := servers.StartCaddy(ctx, "the platform", "platform.log",
		filepath.Join(o.configs, "platform.Caddyfile"), o.platform(), o.environment(o.platformAdmin))
	if err != nil {
		return err
	}
	// The platform may listen a moment before its store is open, so repeat the first
	// command until it succeeds.
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

// demonstrate makes a paid call through the gateway, and then charges the account
// through the platform's API, as the billing server would. After that, it deletes the
// agent's key and tries to use the deleted key.
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
