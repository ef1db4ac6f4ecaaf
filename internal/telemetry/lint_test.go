package telemetry

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// complete returns the collectors of a process that has every kind of resource.
func complete() *Metrics {
	budgets := map[string]Budget{}
	for _, of := range []string{"memory", "calls", "streams", "session_ids", "connections"} {
		budgets[of] = share.New(7, nil)
	}
	return New(&Process{Budgets: budgets, Version: "v1.2.3", Revision: "abc", GoVersion: "go1.26"})
}

// filled returns collectors with at least one sample of each metric.
func filled() *Metrics {
	m := complete()
	m.Lookup("cache", "found", time.Microsecond)
	m.ShareRefused("memory", share.Key)
	m.NearCap(ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay})
	m.Refunded("weather", RefundByOperator, 1, false)
	m.Committed(3, time.Millisecond, nil)
	m.Committed(3, time.Millisecond, errors.New("no"))
	m.ConfigLoaded("USD", nil)
	s := m.Site("weather")
	s.Request("tools/call", "charged")
	s.Overhead(time.Millisecond, "")
	s.Upstream("get_forecast", time.Millisecond, "")
	s.Abandoned()
	s.Reserved(time.Millisecond)
	s.Captured(time.Millisecond)
	s.Signed()
	s.Unjudged("get_forecast")
	s.Charge(gate.Ended{Entry: "get_forecast", Result: gate.ResultCaptured, Amount: 10_000, Fee: 100})
	m.Watch(&store{up: true, open: 1, expiring: make([]int64, len(windows)), limit: 10, kind: "sqlite", connections: Connections{InUse: 1, Limit: 8},
		sizes: &ledger.Sizes{Bytes: map[string]int64{"database": 1}, Rows: map[string]int64{"keys": 1}, DiskFree: 1, Disk: 2, Nodes: 1}, verified: &Verified{}, usage: &ledger.UsageProgress{}})
	return m
}

// TestMetricNames checks units, suffixes and help texts with Prometheus' linter, for
// every metric of the catalogue.
func TestMetricNames(t *testing.T) {
	m, r := filled(), prometheus.NewRegistry()
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
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sampled := map[string]bool{}
	for _, f := range families {
		sampled[f.GetName()] = true
	}
	for _, metric := range m.Catalogue() {
		if !sampled[metric.Name] {
			t.Errorf("%s was not linted: it has no sample", metric.Name)
		}
	}
}
