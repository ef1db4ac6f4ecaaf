package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "farebox_"

// Metric describes one metric. The tables in docs/metrics.md are generated from all
// Metrics.
type Metric struct {
	Section string // heading in docs/metrics.md
	Name    string
	Kind    string // "counter", "gauge", "histogram" or "summary"
	Labels  []string
	Help    string // one or more sentences in Markdown
}

// catalogue makes collectors and remembers the description of each.
type catalogue struct {
	section    string // heading for the metrics that are made next
	metrics    []Metric
	collectors []prometheus.Collector
}

func (c *catalogue) describe(kind, name, help string, labels []string) string {
	name = namespace + name
	c.metrics = append(c.metrics, Metric{Section: c.section, Name: name, Kind: kind, Labels: labels, Help: help})
	return name
}

func (c *catalogue) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: c.describe("counter", name, help, labels), Help: help}, labels)
	c.collectors = append(c.collectors, v)
	return v
}

// histogram makes a histogram in two forms: with classic buckets, and as a native
// histogram. A Prometheus server that scrapes by protobuf stores only the native form.
func (c *catalogue) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: c.describe("histogram", name, help, labels), Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
	c.collectors = append(c.collectors, v)
	return v
}

// summary makes a summary without quantiles: a sum and a count.
func (c *catalogue) summary(name, help string, labels ...string) *prometheus.SummaryVec {
	v := prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: c.describe("summary", name, help, labels), Help: help}, labels)
	c.collectors = append(c.collectors, v)
	return v
}

// gauge makes a gauge with a value that each scrape gets by calling a function.
func (c *catalogue) gauge(name, help string, value func() float64) {
	c.collectors = append(c.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: c.describe("gauge", name, help, nil), Help: help}, value))
}

// constant makes a gauge with the value 1 and labels that never change.
func (c *catalogue) constant(name, help string, labels prometheus.Labels, order ...string) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: c.describe("gauge", name, help, order), Help: help, ConstLabels: labels})
	g.Set(1)
	c.collectors = append(c.collectors, g)
}

// read describes a gauge that has its own collector, which reads the value at each
// scrape.
func (c *catalogue) read(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(c.describe("gauge", name, help, labels), help, labels, nil)
}

// readCounter describes a counter that has its own collector, which reads the value at
// each scrape.
func (c *catalogue) readCounter(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(c.describe("counter", name, help, nil), help, nil, nil)
}
