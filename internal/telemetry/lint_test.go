package telemetry

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fareboxhq/farebox/internal/gate"
)

// TestMetricNames checks units, suffixes and help texts with Prometheus' linter.
func TestMetricNames(t *testing.T) {
	m := New(func() int64 { return 7 })
	m.Request("weather", "tools/call", "charged")
	m.Lookup("cache", "found", time.Microsecond)
	m.Abandoned("weather")
	m.Overhead(time.Millisecond)
	m.Meter("weather").Reserved(time.Millisecond)
	m.Meter("weather").Charge("get_forecast", gate.ResultCaptured, 10_000, false)
	r := prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, err := testutil.GatherAndCount(r); err != nil || n < 6 {
		t.Errorf("%d metrics were linted, %v", n, err)
	}
}
