// Package scrape reads metrics in the text format of Prometheus. From two scrapes of
// one process, it computes increases of counters, and means and quantiles of
// observations. The rules are those of Prometheus, so that a program that scrapes by
// itself shows the numbers that a dashboard would show.
//
// The text format is defined at
// https://prometheus.io/docs/instrumenting/exposition_formats/.
package scrape

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ContentType is the media type of the format that Parse reads. A scrape should send it
// in its Accept header.
const ContentType = "text/plain; version=0.0.4"

// Sample is the result of one scrape. A Sample never changes, so it is safe for
// concurrent use.
type Sample struct {
	// At is the time of the scrape, on the clock of the process that scrapes.
	At     time.Time
	series map[string][]Series // the series by name; each list is sorted by Series.id
}

// Series is one line of a scrape: a value with its labels. For a histogram NAME, there
// are the series NAME_bucket, NAME_sum and NAME_count. For a summary NAME, there are
// NAME_sum and NAME_count.
type Series struct {
	Labels map[string]string
	Value  float64

	id string // the labels as one text, for comparisons
}

// Parse reads a scrape. An error contains the line that is not in the text format.
func Parse(r io.Reader, at time.Time) (*Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s := &Sample{At: at, series: make(map[string][]Series)}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			s.add(name, m)
		}
	}
	s.sort()
	return s, nil
}

// Gatherer is a registry of metrics in this process.
type Gatherer interface {
	Gather() ([]*dto.MetricFamily, error)
}

// Gather reads the metrics of this process. It returns the same series as a scrape
// would.
func Gather(g Gatherer, at time.Time) (*Sample, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s := &Sample{At: at, series: make(map[string][]Series)}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			s.add(family.GetName(), m)
		}
	}
	s.sort()
	return s, nil
}

func (s *Sample) sort() {
	for _, series := range s.series {
		slices.SortFunc(series, func(a, b Series) int { return strings.Compare(a.id, b.id) })
	}
}

// add adds the series of a metric.
func (s *Sample) add(name string, m *dto.Metric) {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	switch {
	case m.Histogram != nil:
		count := float64(m.GetHistogram().GetSampleCount()) + m.GetHistogram().GetSampleCountFloat()
		buckets := m.GetHistogram().GetBucket()
		for _, b := range buckets {
			s.putBucket(name, labels, b.GetUpperBound(), float64(b.GetCumulativeCount())+b.GetCumulativeCountFloat())
		}
		if n := len(buckets); n > 0 && !math.IsInf(buckets[n-1].GetUpperBound(), 1) { // the registry leaves out the last bucket, but the text format has it
			s.putBucket(name, labels, math.Inf(1), count)
		}
		s.put(name+"_sum", labels, m.GetHistogram().GetSampleSum())
		s.put(name+"_count", labels, count)
	case m.Summary != nil:
		s.put(name+"_sum", labels, m.GetSummary().GetSampleSum())
		s.put(name+"_count", labels, float64(m.GetSummary().GetSampleCount()))
	default: // only one of the three values is set, and the others are 0
		s.put(name, labels, m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue())
	}
}

// putBucket adds the series for one bucket of a histogram.
func (s *Sample) putBucket(name string, labels map[string]string, bound, count float64) {
	bucket := maps.Clone(labels)
	bucket["le"] = strconv.FormatFloat(bound, 'g', -1, 64)
	s.put(name+"_bucket", bucket, count)
}

func (s *Sample) put(name string, labels map[string]string, value float64) {
	var id strings.Builder
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&id, "%s=%q,", label, labels[label])
	}
	s.series[name] = append(s.series[name], Series{Labels: labels, Value: value, id: id.String()})
}

// Has reports whether the scrape has a series with the given name.
func (s *Sample) Has(name string) bool { return len(s.series[name]) > 0 }

// HasPrefix reports whether the scrape has a series with a name that begins with prefix.
func (s *Sample) HasPrefix(prefix string) bool {
	for name := range s.series {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Series returns the series with the given name, in a fixed order. The caller must not
// change them.
func (s *Sample) Series(name string) []Series { return s.series[name] }

// Labels selects series by their labels. A nil Labels selects all series.
type Labels map[string]string

// match reports whether the series has all the labels in l.
func (l Labels) match(s *Series) bool {
	for name, value := range l {
		if s.Labels[name] != value {
			return false
		}
	}
	return true
}

// Sum returns the sum of the values of the series that have the given name and labels.
// It returns false if there are no such series.
func (s *Sample) Sum(name string, where Labels) (sum float64, ok bool) {
	for i := range s.series[name] {
		if series := &s.series[name][i]; where.match(series) {
			sum, ok = sum+series.Value, true
		}
	}
	return sum, ok
}
