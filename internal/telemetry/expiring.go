package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// windows lists the periods for which expiring keys are counted, with their labels. All
// periods begin now, so each one includes the shorter ones.
var windows = []struct {
	label  string
	within time.Duration
}{{"1d", day}, {"7d", 7 * day}, {"14d", 14 * day}, {"30d", 30 * day}, {"90d", 90 * day}}

// expiring is a collector of the number of keys that expire soon, by window. It has no
// samples if any store cannot count its keys, because the sum over the other stores
// would look complete.
type expiring struct {
	desc    *prometheus.Desc
	sources func() []Source
	within  []time.Duration
}

func newExpiring(c *catalogue, sources func() []Source) *expiring {
	e := &expiring{sources: sources, desc: c.read("keys_expiring",
		"Keys that can be used now and expire within `1d`, `7d`, `14d`, `30d` or `90d`. Absent where the store is a platform's, or cannot be asked.", "within")}
	for _, w := range windows {
		e.within = append(e.within, w.within)
	}
	return e
}

// Describe implements prometheus.Collector.
func (e *expiring) Describe(descs chan<- *prometheus.Desc) { descs <- e.desc }

// Collect implements prometheus.Collector.
func (e *expiring) Collect(samples chan<- prometheus.Metric) {
	sources := e.sources()
	totals := make([]int64, len(windows))
	for _, s := range sources {
		counts, ok := s.ExpiringKeys(slices.Clone(e.within))
		if !ok || len(counts) != len(totals) {
			return
		}
		for i, n := range counts {
			totals[i] += n
		}
	}
	if len(sources) == 0 {
		return
	}
	for i, w := range windows {
		samples <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(totals[i]), w.label)
	}
}
