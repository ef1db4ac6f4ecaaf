package demo

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
)

// Options are the settings that all demonstrations have in common.
type Options struct {
	Binaries
	Data string // directory for the data and the logs
	Once bool   // stop after the demonstration
}

// AddFlags defines the flags. The parameters farebox and data are the usage texts of
// the flags -farebox and -data. The text data must also state the default of -data.
func (o *Options) AddFlags(farebox, data string) {
	flag.StringVar(&o.Farebox, "farebox", "bin/farebox", farebox)
	flag.StringVar(&o.Weather, "weather", "bin/weather", "the demonstration server's binary")
	flag.StringVar(&o.Data, "data", "", data)
	flag.BoolVar(&o.Once, "once", false, "stop after the demonstration")
}

// DataPath returns Data as an absolute path, for programs that may run in another
// directory.
func (o *Options) DataPath() string {
	path, err := filepath.Abs(o.Data)
	if err != nil {
		return o.Data
	}
	return path
}

// Run calls the function check, starts the servers with the function start, and
// calls the function show. Then, unless the field Once is set, Run waits until the
// context or a server ends. If check fails, no process is started. When Run returns,
// all processes that it started have ended.
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
