package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/pgserver"
)

// options are the settings from the flags.
type options struct {
	rounds      int
	seconds     float64 // the length of a turn in seconds
	connections int
	rows        string
	out         string // directory of the reports, "" for none
	farebox     string // path of the binary
	nginx       string // path of nginx; "" if it is missing
	streams     int    // if not 0, this number of idle streams is measured instead of the rows
}

func (o options) duration() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

func main() {
	if len(os.Args) == 3 && (os.Args[1] == asUpstream || os.Args[1] == asAuth) {
		fmt.Fprintln(os.Stderr, serve(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds in closed loop")
	flag.Float64Var(&o.seconds, "seconds", 5, "seconds of each turn")
	flag.IntVar(&o.connections, "connections", 16, "connections of the client")
	flag.StringVar(&o.rows, "rows", "all", "all, quick, or some of "+rowNames(rows))
	flag.IntVar(&o.streams, "streams", 0, "measure this number of idle event streams, and long ones, instead of rows")
	flag.StringVar(&o.out, "out", "", "directory for bench.txt, bench.json and bench.svg, or streams.txt and streams.json (default: write none)")
	flag.StringVar(&o.farebox, "farebox", "bin/farebox", "the gateway's binary, which is also plain Caddy")
	flag.Parse()
	// SIGPIPE, from a closed output, also has to end the servers.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := start(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// start checks the options, leaves out the rows that cannot run here, and runs the
// other rows.
func start(ctx context.Context, o options) (err error) {
	if flag.NArg() > 0 || o.rounds < 1 || o.seconds <= 0 || o.connections < 1 || o.streams < 0 {
		return errors.New("want positive -rounds, -seconds and -connections, and no arguments")
	}
	list, err := selectRows(o.rows)
	if err != nil {
		return err
	}
	if o.farebox, err = exec.LookPath(o.farebox); err != nil {
		return fmt.Errorf("%w: \"make build\" makes it", err)
	}
	if o.farebox, err = filepath.Abs(o.farebox); err != nil {
		return err
	}
	if o.streams > 0 {
		return measureStreams(ctx, o, os.Stdout)
	}
	o.nginx = findNginx(".")
	list, left := leaveOut(list, o.nginx != "", pgserver.Installed())
	for _, line := range left {
		fmt.Println(line)
	}
	return run(ctx, o, list, left, os.Stdout)
}

// leaveOut returns the rows that need no missing server, and a line of text about each
// missing server.
func leaveOut(list []row, nginx, postgres bool) (kept []row, lines []string) {
	for _, missing := range []struct {
		server, line string
		there        bool
	}{
		{nginxServer, "nginx is not installed, so its rows are left out: \"FAREBOX_INSTALL=yes make bench\" unpacks Debian's into bin/nginx", nginx},
		{postgresServer, "PostgreSQL is not installed, so its rows are left out: apt-get install postgresql", postgres},
	} {
		if !missing.there && uses(list, missing.server) {
			lines = append(lines, missing.line)
			list = slices.DeleteFunc(slices.Clone(list), func(r row) bool { return r.server == missing.server })
		}
	}
	return list, lines
}

// run measures the rows and writes the reports. All servers have ended when it returns.
func run(ctx context.Context, o options, list []row, left []string, out io.Writer) (err error) {
	begin, load := clock.Now(), loadAverage()
	s, err := newStand(ctx, o, list)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	b := &bench{options: o, stand: s, rows: list, out: out}
	if err := b.measure(ctx); err != nil {
		return err
	}
	r := b.report()
	r.Machine, r.LeftOut = describeMachine(ctx, o.nginx), left
	r.Begin, r.Took = begin.UTC().Truncate(time.Second), clock.Since(begin).Round(time.Second).String()
	r.LoadBefore, r.LoadAfter = load, loadAverage()
	fmt.Fprintln(out)
	if err := r.writeText(out); err != nil {
		return err
	}
	return r.save(o.out)
}
