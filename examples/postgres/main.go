// Command postgres, run by "make run-postgres", starts a PostgreSQL server, two
// Farebox gateways that share a database on it, and a balancer in front of the
// gateways. It shows that either gateway can serve any request, even within one
// session. A key deleted through one gateway no longer works at the other. The
// servers keep running until the program is stopped, which ends all of them. The
// program manages Farebox as an operator would, with the commands of the real
// binary.
//
// The program needs Debian's package postgresql, and runs on Unix systems.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fareboxhq/farebox/examples/internal/demo"
	"github.com/fareboxhq/farebox/internal/pgserver"
)

const (
	startTimeout = time.Minute
	callTimeout  = 30 * time.Second // the time limit for the demonstration

	name        = "postgres"
	accountName = "demo"
	database    = "farebox"
	calls       = 4
)

func main() {
	o := options{}
	o.AddFlags("the gateway's binary", "directory for the gateways' keys and the logs (default postgres in $FAREBOX_DATA, else in data)")
	flag.StringVar(&o.configs, "configs", "examples/postgres", "directory of the Caddyfiles")
	flag.Parse()
	o.fromEnvironment(os.Getenv)
	demo.Main(name, func(ctx context.Context, out io.Writer) error { return run(ctx, o, out) })
}

// run runs the demonstration. All processes that it starts have ended when it
// returns.
func run(ctx context.Context, o options, out io.Writer) error {
	dsn := ""
	return o.Run(ctx, o.check, func(servers *demo.Servers) error {
		database, remove, err := startDatabase(ctx)
		if err != nil {
			return err
		}
		servers.After(remove)
		dsn = database
		return start(ctx, o, servers, dsn)
	}, func() error {
		d, err := demonstrate(ctx, o)
		if err != nil {
			return err
		}
		d.dsn = dsn
		report(out, o, d)
		return nil
	})
}

// startDatabase starts a PostgreSQL server and creates a database on it. The caller
// must call remove, which ends the server and deletes its files.
func startDatabase(ctx context.Context) (dsn string, remove func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, err := pgserver.Start(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := server.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return "", nil, errors.Join(err, server.Remove())
	}
	return server.DSN(database), server.Remove, nil
}

// start starts the MCP server, the gateways, and the balancer. It starts the second
// gateway only when the first is ready, because the first creates the tables and the
// key files that both share.
func start(ctx context.Context, o options, servers *demo.Servers, dsn string) error {
	if err := servers.StartWeather(ctx, o.weatherPort); err != nil {
		return err
	}
	for _, n := range o.nodes {
		gateway, err := servers.StartCaddy(ctx, "the gateway at "+n.address(), "gateway-"+n.port+".log",
			filepath.Join(o.configs, "Caddyfile"), n.endpoint(), o.environment(n, dsn))
		if err != nil {
			return err
		}
		// The gateway may listen a moment before its store is open, so repeat the
		// first command until it succeeds.
		err = gateway.Await(ctx, func(ctx context.Context) error {
			return o.operator(n).EnsureAccount(ctx, accountName)
		})
		if err != nil {
			return err
		}
	}
	_, err := servers.StartCaddy(ctx, "the balancer", "balancer.log",
		filepath.Join(o.configs, "balancer.Caddyfile"), o.endpoint(), o.balancer())
	return err
}

// demonstrate makes calls through the balancer, so that both gateways serve some of
// them. Then it deletes the key of these calls through one gateway, and tries to use
// the key at the other gateway.
func demonstrate(ctx context.Context, o options) (*demonstration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	first, second := o.operator(o.nodes[0]), o.operator(o.nodes[1])
	if _, err := first.EnsureCredits(ctx, accountName, name); err != nil {
		return nil, err
	}
	var err error
	d := &demonstration{}
	if d.deleted, err = first.NewKey(ctx, accountName, "--name", "first"); err != nil {
		return nil, err
	}
	if d.calls, err = callAll(ctx, o.endpoint(), d.deleted.Secret); err != nil {
		return nil, err
	}
	if err := first.Run(ctx, nil, "key", "delete", d.deleted.ID); err != nil {
		return nil, err
	}
	if d.refusal, err = demo.Refusal(ctx, o.nodes[1].endpoint(), d.deleted.Secret); err != nil {
		return nil, err
	}
	if d.key, err = second.NewKey(ctx, accountName, "--name", "second"); err != nil {
		return nil, err
	}
	if d.account, err = second.Account(ctx, accountName); err != nil {
		return nil, err
	}
	d.transactions, err = second.VerifyLedger(ctx)
	return d, err
}

// callAll makes all calls of the demonstration in one session.
func callAll(ctx context.Context, endpoint, secret string) (all []*demo.PaidCall, err error) {
	agent, err := demo.Connect(ctx, endpoint, secret)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	for range calls {
		call, err := agent.Call(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, call)
	}
	return all, nil
}
