// Command quickstart, run by "make run", starts a demonstration MCP server and a
// Farebox gateway in front of it. It makes an account with test credits and an agent
// key, calls one paid tool as an agent would, and prints the results. The servers
// keep running for you to try with a client or curl, until the program is stopped.
// The program manages Farebox as an operator would, with the commands of the real
// binary.
//
// The program runs on Unix systems.
package main

import (
	"context"
	"flag"
	"io"
	"os"
	"time"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

const (
	callTimeout = 30 * time.Second // the time limit for the demonstration

	name        = "quickstart"
	accountName = "demo"
	keyLife     = "30d"
)

func main() {
	o := options{}
	o.AddFlags("the gateway's binary", "directory for the store and the logs (default $FAREBOX_DATA, else data)")
	flag.StringVar(&o.config, "config", "Caddyfile", "the gateway's configuration")
	flag.Parse()
	o.fromEnvironment(os.Getenv)
	demo.Main(name, func(ctx context.Context, out io.Writer) error { return run(ctx, o, out) })
}

// run runs the demonstration. All processes that it starts have ended when it
// returns.
func run(ctx context.Context, o options, out io.Writer) error {
	var gateway *demo.Process
	return o.Run(ctx, o.check, func(servers *demo.Servers) (err error) {
		gateway, err = start(ctx, o, servers)
		return err
	}, func() error {
		d, err := demonstrate(ctx, o, gateway)
		if err != nil {
			return err
		}
		report(out, o, d)
		return nil
	})
}

// start starts the MCP server, waits until it answers, and starts the gateway.
func start(ctx context.Context, o options, servers *demo.Servers) (*demo.Process, error) {
	if err := servers.StartWeather(ctx, o.weatherPort, "-stateless"); err != nil {
		return nil, err
	}
	return servers.StartCaddy(ctx, "the gateway", "gateway.log", o.config, o.endpoint(), o.environment())
}

// demonstrate prepares an account and a key, and makes the paid call.
func demonstrate(ctx context.Context, o options, gateway *demo.Process) (*demonstration, error) {
	operator := demo.Operator{Binary: o.Farebox, Admin: o.admin}
	// The gateway may listen a moment before its store is open, so repeat the first
	// command until it succeeds.
	err := gateway.Await(ctx, func(ctx context.Context) error {
		return operator.EnsureAccount(ctx, accountName)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d := &demonstration{}
	if d.before, err = operator.EnsureCredits(ctx, accountName, name); err != nil {
		return nil, err
	}
	if d.key, err = operator.NewKey(ctx, accountName, "--name", name, "--expires", keyLife); err != nil {
		return nil, err
	}
	if d.call, err = demo.CallPaidTool(ctx, o.endpoint(), d.key.Secret); err != nil {
		return nil, err
	}
	if d.after, err = operator.Account(ctx, accountName); err != nil {
		return nil, err
	}
	if !o.Once { // with Once, the servers stop before anybody could open the console
		d.link, err = operator.InviteOperator(ctx)
	}
	return d, err
}
