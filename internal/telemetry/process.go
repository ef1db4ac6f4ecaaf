package telemetry

import (
	"math"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/clock"
)

// budgets is a collector for the resources that the callers of the process share.
type budgets struct {
	of          map[string]Budget
	used, limit *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (b *budgets) Describe(descs chan<- *prometheus.Desc) { descs <- b.used; descs <- b.limit }

// Collect implements prometheus.Collector.
func (b *budgets) Collect(samples chan<- prometheus.Metric) {
	for name, budget := range b.of {
		samples <- prometheus.MustNewConstMetric(b.used, prometheus.GaugeValue, float64(budget.Used()), name)
		samples <- prometheus.MustNewConstMetric(b.limit, prometheus.GaugeValue, float64(budget.Total()), name)
	}
}

// currency is a collector with the currency of the newest config as a label. It has no
// sample until a config has started.
type currency struct {
	m    *Metrics
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *currency) Describe(descs chan<- *prometheus.Desc) { descs <- c.desc }

// Collect implements prometheus.Collector.
func (c *currency) Collect(samples chan<- prometheus.Metric) {
	c.m.mu.Lock()
	code := c.m.currency
	c.m.mu.Unlock()
	if code != "" {
		samples <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, 1, code)
	}
}

// newOffset returns a function. A call of that function returns the number of seconds
// by which the wall clock has been set ahead since newOffset was called. It compares
// the wall clock with the monotonic clock.
func newOffset() func() float64 {
	began := clock.Now()
	return func() float64 {
		now := clock.Now()
		wall := now.Round(0).Sub(began.Round(0)) // Round removes the monotonic reading
		return math.Round((wall-now.Sub(began)).Seconds()*1e3) / 1e3
	}
}

// modulePath is the path of Farebox's module, by which Build finds the version.
const modulePath = "github.com/fareboxhq/farebox"

// Build returns the version of Farebox in this binary, its commit, and the version of
// Go, as the Go toolchain has recorded them. The commit is recorded only if Farebox is
// the main module. A value that was not recorded is "unknown".
func Build() (version, revision, goversion string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", "unknown", "unknown"
	}
	version, revision = "unknown", "unknown"
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == modulePath && m.Version != "" {
			version = m.Version
		}
	}
	if info.Main.Path == modulePath {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return version, revision, info.GoVersion
}

const day = 24 * time.Hour
