package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// usageSums is a collector of the progress of the sums of usage.
type usageSums struct {
	sources      func() []Source
	pending, lag *prometheus.Desc
}

func newUsageSums(c *catalogue, sources func() []Source) *usageSums {
	return &usageSums{
		sources: sources,
		pending: c.read("usage_pending_transactions", "Transactions that the sums of [usage](usage.md) do not have yet. Reports read them one by one. Absent on a gateway of a platform, and while the store cannot sum up."),
		lag:     c.read("usage_lag_seconds", "The age of the oldest of these."),
	}
}

// Describe implements prometheus.Collector.
func (u *usageSums) Describe(descs chan<- *prometheus.Desc) {
	descs <- u.pending
	descs <- u.lag
}

// Collect implements prometheus.Collector. If several stores are open, it reports the
// number of pending transactions in all stores together, and the age of the oldest such
// transaction.
func (u *usageSums) Collect(samples chan<- prometheus.Metric) {
	pending, lag, any := int64(0), time.Duration(0), false
	for _, source := range u.sources() {
		if p, ok := source.UsageProgress(); ok {
			pending, lag, any = pending+p.Pending, max(lag, p.Lag), true
		}
	}
	if !any {
		return
	}
	samples <- prometheus.MustNewConstMetric(u.pending, prometheus.GaugeValue, float64(pending))
	samples <- prometheus.MustNewConstMetric(u.lag, prometheus.GaugeValue, lag.Seconds())
}
