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
	Once bool   // true to stop the servers right after the demonstration
}

// AddFlags defines the flags. The strings farebox and data are the usage texts of the
// flags -farebox and -data. The usage text of -data must also state its default.
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

// Run calls check(), which must not start a process, then start(servers) and show(). If
// one of these calls fails, Run returns its error. Otherwise Run waits until the
// context or a server ends, unless o.Once is true. When Run returns, all processes that
// it started have ended.
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
