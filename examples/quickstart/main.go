// Command quickstart is what "make run" runs: it starts a demonstration MCP
// server and a Farebox gateway in front of it, makes an account with test
// credits and an agent key, calls one paid tool as an agent would, and prints
// what happened. Then it stays up, for a client or curl to try, until it is
// told to stop. All that it does to Farebox, it does as an operator would:
// with the commands of the real binary.
//
// It runs on Unix systems.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second // how long the servers may take to get ready
	callTimeout  = 30 * time.Second // how long the paid call may take
)

func main() {
	o := options{}
	flag.StringVar(&o.farebox, "farebox", "bin/farebox", "the gateway's binary")
	flag.StringVar(&o.weather, "weather", "bin/weather", "the demonstration server's binary")
	flag.StringVar(&o.config, "config", "Caddyfile", "the gateway's configuration")
	flag.StringVar(&o.data, "data", "", "directory for the store and the logs (default $FAREBOX_DATA, else data)")
	flag.BoolVar(&o.once, "once", false, "stop after the call")
	flag.Parse()
	o.fromEnvironment(os.Getenv)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, o, os.Stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Println("\nStopped.")
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		stop()
		os.Exit(1)
	}
}

// run does it all; when it returns, nothing that it started is running.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return err
	}
	servers, err := start(ctx, o)
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return err
	}
	demo, err := demonstrate(ctx, o, servers)
	if err != nil {
		return err
	}
	report(out, o, demo)
	if o.once {
		return nil
	}
	return wait(ctx, servers)
}

// start starts the server, waits until it answers, and starts the gateway. It
// returns what runs, even with an error.
func start(ctx context.Context, o options) ([]*process, error) {
	weather, err := spawn("the weather server", filepath.Join(o.data, "weather.log"), nil,
		o.weather, "-stateless", "-listen", "127.0.0.1:"+o.weatherPort)
	if err != nil {
		return nil, err
	}
	if err := weather.await(ctx, answers("http://127.0.0.1:"+o.weatherPort+"/healthz")); err != nil {
		return []*process{weather}, err
	}
	gateway, err := spawn("the gateway", filepath.Join(o.data, "gateway.log"), o.environment(),
		o.farebox, "run", "--config", o.config, "--adapter", "caddyfile")
	if err != nil {
		return []*process{weather}, err
	}
	return []*process{gateway, weather}, gateway.await(ctx, answers(o.endpoint()))
}

// demonstrate readies an account and a key, and makes the paid call.
func demonstrate(ctx context.Context, o options, servers []*process) (*demonstration, error) {
	operator := operator{binary: o.farebox, admin: o.admin}
	// The store may open a moment after the listener, so the first command is
	// tried until it succeeds.
	err := servers[0].await(ctx, func(ctx context.Context) error {
		return operator.ensureAccount(ctx, accountName)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d := &demonstration{}
	if d.before, err = operator.ensureCredits(ctx, accountName); err != nil {
		return nil, err
	}
	if d.key, err = operator.newKey(ctx, accountName); err != nil {
		return nil, err
	}
	if d.call, err = callPaidTool(ctx, o.endpoint(), d.key.Secret); err != nil {
		return nil, err
	}
	if d.after, err = operator.account(ctx, accountName); err != nil {
		return nil, err
	}
	return d, nil
}
