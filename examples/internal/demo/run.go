package demo

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
)

// Options are what all demonstrations have in common.
type Options struct {
	Binaries
	Data string // directory for what is kept, and for the logs
	Once bool   // stop after the demonstration
}

// AddFlags defines the flags. The texts say what the gateway's binary is for, and
// what is in the directory and where that is otherwise.
func (o *Options) AddFlags(farebox, data string) {
	flag.StringVar(&o.Farebox, "farebox", "bin/farebox", farebox)
	flag.StringVar(&o.Weather, "weather", "bin/weather", "the demonstration server's binary")
	flag.StringVar(&o.Data, "data", "", data)
	flag.BoolVar(&o.Once, "once", false, "stop after the demonstration")
}

// DataPath is Data for programs that may run in another directory.
func (o *Options) DataPath() string {
	path, err := filepath.Abs(o.Data)
	if err != nil {
		return o.Data
	}
	return path
}

// Run starts the servers, shows what there is to show, and stays up until the
// context or a server ends, unless it is to be done once. Check comes before
// anything is started; when Run returns, nothing that it started is running.
func (o *Options) Run(ctx context.Context, check func() error, start func(*Servers) error, show func() error) (err error) {
	if err := check(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return err
	}
	servers := &Servers{Binaries: o.Binaries, Data: o.Data}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	if err := start(servers); err != nil {
		return err
	}
	if err := show(); err != nil {
		return err
	}
	if o.Once {
		return nil
	}
	return servers.Wait(ctx)
}
