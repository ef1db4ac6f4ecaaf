// Command draw draws Grafana dashboards as PNG files, without Grafana: it asks
// Prometheus for the results of all panels, and puts them on the dashboard's grid
// with titles, units, thresholds and legends. So a change of a dashboard can be
// looked at, and the pictures in docs/dashboards can be made.
//
//	go run ./draw -prometheus http://127.0.0.1:9090 -range 30m -out DIR ../dashboards/*.json
//
// The command fails if a panel has no data, unless the panel has a text for this case.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.prometheus, "prometheus", "http://127.0.0.1:9090", "the base `URL` of Prometheus")
	flag.DurationVar(&o.span, "range", time.Hour, "the period that ends now")
	flag.DurationVar(&o.rate, "rate", time.Minute, "the interval for rates; four times the scrape interval or more")
	flag.StringVar(&o.folder, "out", ".", "the `folder` of the pictures")
	flag.StringVar(&o.job, "job", ".*", "a regular expression for the job")
	flag.BoolVar(&o.gaps, "gaps", false, "draw panels without data, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	prometheus, folder, job string
	span, rate              time.Duration
	gaps                    bool
}

// run draws the dashboards in these files.
func (o options) run(ctx context.Context, files []string) error {
	source := &source{url: o.prometheus}
	end, err := source.now(ctx)
	if err != nil {
		return err
	}
	source.end, source.span = end, o.span
	source.variables = strings.NewReplacer(
		"$__rate_interval", o.rate.String(), "$__range", o.span.String(),
		"$job", o.job, "$node", ".*", "$server", ".*", "$environment", "live",
		"$currency", source.currency(ctx))
	for _, file := range files {
		b, err := load(file)
		if err != nil {
			return err
		}
		if err := b.fill(ctx, source); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if gaps := b.gaps(); len(gaps) > 0 && !o.gaps {
			return errors.New("no data: " + strings.Join(gaps, "; "))
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json") + ".png"
		if err := b.draw(filepath.Join(o.folder, name)); err != nil {
			return err
		}
	}
	return nil
}
