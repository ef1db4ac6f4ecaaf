package telemetry

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsAreDocumented checks that docs/metrics.md lists each collector with
// its kind and labels, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(farebox_[a-z_]+)` \\| (\\w+) \\| ([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		if _, twice := documented[m[1]]; twice {
			t.Errorf("%s is documented twice", m[1])
		}
		documented[m[1]] = m[2] + " " + sorted(regexp.MustCompile("[a-z]+").FindAllString(m[3], -1))
	}

	// A descriptor shows its labels only in its text. It does not show its kind,
	// which follows from the type of the collector.
	m, all := New(func() int64 { return 0 }), &recording{}
	if err := m.Register(all); err != nil {
		t.Fatal(err)
	}
	described := regexp.MustCompile(`fqName: "([a-z_]+)".*variableLabels: \{([a-z,]*)\}`)
	for _, c := range all.collectors {
		descs := make(chan *prometheus.Desc, 10)
		c.Describe(descs)
		close(descs)
		for desc := range descs {
			is := described.FindStringSubmatch(desc.String())
			if is == nil {
				t.Fatalf("%s cannot be read", desc)
			}
			want := kindOf(c) + " " + sorted(strings.FieldsFunc(is[2], func(r rune) bool { return r == ',' }))
			if got := documented[is[1]]; got != want {
				t.Errorf("%s is documented as %q, and is %q", is[1], got, want)
			}
			delete(documented, is[1])
		}
	}
	for name := range documented {
		t.Errorf("%s is documented but does not exist", name)
	}
}

func sorted(labels []string) string {
	slices.Sort(labels)
	return strings.Join(labels, " ")
}

func kindOf(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case prometheus.Histogram:
		return "histogram"
	}
	return "gauge"
}

// recording is a Registerer that only records its collectors.
type recording struct{ collectors []prometheus.Collector }

func (r *recording) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return nil
}
func (r *recording) MustRegister(...prometheus.Collector) {}
func (r *recording) Unregister(prometheus.Collector) bool { return false }
