package harness

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
)

// Metrics returns the gateway's metrics: the value of each sample, by its name and
// labels as the text format of Prometheus writes them.
func (g *Gateway) Metrics(t testing.TB) map[string]float64 {
	t.Helper()
	samples := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(g.MetricsText(t))); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("sample %q: %v", line, err)
		}
		samples[line[:at]] = value
	}
	return samples
}

// MetricsText returns the gateway's metrics in the text format.
func (g *Gateway) MetricsText(t testing.TB) string {
	t.Helper()
	text, err := fetch("http://" + g.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Goroutines returns the number of the gateway's goroutines.
func (g *Gateway) Goroutines(t testing.TB) int {
	t.Helper()
	return int(g.Metrics(t)["go_goroutines"])
}

// GoroutineDump returns the stacks of the gateway's goroutines.
func (g *Gateway) GoroutineDump(t testing.TB) string {
	t.Helper()
	text, err := fetch("http://" + g.Admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
