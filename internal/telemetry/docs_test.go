package telemetry

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

const (
	metricsPage  = "../../docs/metrics.md"
	beginsTables = "<!-- The tables are made from the collectors: go test ./internal/telemetry -update -->\n"
	endsTables   = "<!-- end of the tables -->\n"
)

// tables returns the tables of docs/metrics.md, one for each section, in the order of
// the sections.
func tables(metrics []Metric) string {
	var page strings.Builder
	for _, section := range []string{"Requests", "Keys", "Money", "The store", "The process"} {
		fmt.Fprintf(&page, "\n## %s\n\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n", section)
		for _, m := range metrics {
			if m.Section == section {
				labels := ""
				if len(m.Labels) > 0 {
					labels = "`" + strings.Join(m.Labels, "`, `") + "`"
				}
				fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, labels, m.Help)
			}
		}
	}
	return page.String() + "\n"
}

// TestMetricsAreDocumented checks that docs/metrics.md lists exactly the existing
// metrics, each with its kind, its labels and its meaning. With -update, it writes the
// page.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), beginsTables)
	found, after, ends := strings.Cut(rest, endsTables)
	if !ok || !ends {
		t.Fatalf("%s lacks the marks of its tables", metricsPage)
	}
	want := tables(complete().Catalogue())
	if *update {
		if err := os.WriteFile(metricsPage, []byte(before+beginsTables+want+endsTables+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if found != want {
		t.Errorf("%s differs from the collectors: run go test ./internal/telemetry -update", metricsPage)
	}
}

// TestCatalogueIsComplete checks that the collectors describe exactly the metrics in
// the catalogue, with the same labels.
func TestCatalogueIsComplete(t *testing.T) {
	m := complete()
	described := map[string]bool{}
	for _, c := range m.collectors {
		descs := make(chan *prometheus.Desc, 20)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			described[d.String()] = true
		}
	}
	for _, metric := range m.Catalogue() {
		name := fmt.Sprintf("fqName: %q", metric.Name)
		labels := fmt.Sprintf("variableLabels: {%s}", strings.Join(metric.Labels, ","))
		match := func(desc string) bool {
			constant := metric.Name == "farebox_build_info"
			return strings.Contains(desc, name) && (constant || strings.Contains(desc, labels))
		}
		found := 0
		for desc := range described {
			if match(desc) {
				delete(described, desc)
				found++
			}
		}
		if found != 1 || metric.Section == "" || !slices.Contains([]string{"counter", "gauge", "histogram", "summary"}, metric.Kind) {
			t.Errorf("%+v is described by %d collectors", metric, found)
		}
	}
	for desc := range described {
		t.Errorf("%s is not in the catalogue", desc)
	}
}
