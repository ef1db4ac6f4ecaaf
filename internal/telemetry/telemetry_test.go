package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// sample returns the value of the sample with these label values, or -1.
func sample(t *testing.T, r *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}

// TestCountsOutliveRegistries checks that the registry of a second config shows the
// counts made under the first. Registering twice is not an error.
func TestCountsOutliveRegistries(t *testing.T) {
	m := New(func() int64 { return 7 })
	first, second := prometheus.NewRegistry(), prometheus.NewRegistry()
	for _, r := range []*prometheus.Registry{first, first, second} {
		if err := m.Register(r); err != nil {
			t.Fatal(err)
		}
	}
	m.Request("weather", "tools/call", "charged")
	m.Lookup("cache", "found", time.Microsecond)
	for _, r := range []*prometheus.Registry{first, second} {
		if n := sample(t, r, "farebox_requests_total", "charged", "tools/call", "weather"); n != 1 {
			t.Errorf("requests: %v", n)
		}
		if n := sample(t, r, "farebox_key_lookups_total", "found", "cache"); n != 1 {
			t.Errorf("lookups: %v", n)
		}
		if n := sample(t, r, "farebox_held_bytes"); n != 7 {
			t.Errorf("held bytes: %v", n)
		}
	}
}

// TestChargedMicrounits checks that only captures are counted as charged, in
// micro-units. Live and test calls are counted separately, for every result.
func TestChargedMicrounits(t *testing.T) {
	m, r := New(func() int64 { return 0 }), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	meter := m.Meter("weather")
	meter.Charge("get_*", gate.ResultCaptured, 10_000, false)
	meter.Charge("get_*", gate.ResultCaptured, 5_000, true)
	meter.Charge("get_*", gate.ResultReleased, 99, false)
	meter.Charge("get_*", gate.ResultRefunded, 99, true)
	meter.Captured(time.Millisecond)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"farebox_charged_microunits_total", []string{"live", "weather", "get_*"}, 10_000},
		{"farebox_charged_microunits_total", []string{"test", "weather", "get_*"}, 5_000},
		{"farebox_charges_total", []string{"live", "captured", "weather", "get_*"}, 1},
		{"farebox_charges_total", []string{"test", "captured", "weather", "get_*"}, 1},
		{"farebox_charges_total", []string{"live", "released", "weather", "get_*"}, 1},
		{"farebox_charges_total", []string{"test", "refunded", "weather", "get_*"}, 1},
		{"farebox_capture_seconds", nil, 1},
	} {
		if got := sample(t, r, c.name, c.labels...); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

// store is a Source with fixed values.
type store struct {
	open     int
	up       bool
	lag      time.Duration
	expiring []int64 // nil: the keys cannot be counted
}

func (s *store) RevocationLag() time.Duration { return s.lag }

func (s *store) OpenReservations() int { return s.open }
func (s *store) RefundsOwed() int      { return s.open }
func (s *store) CacheEntries() int     { return 2 * s.open }
func (s *store) StoreUp() bool         { return s.up }

func (s *store) ExpiringKeys([]time.Duration) ([]int64, bool) { return s.expiring, s.expiring != nil }

// TestGauges checks that the gauges sum over the open stores, and that store_up is
// 0 if one of them is down.
func TestGauges(t *testing.T) {
	m, r := New(func() int64 { return 0 }), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	one, two := &store{open: 3, up: true, lag: time.Second}, &store{open: 4, lag: 2 * time.Second}
	unwatch := m.Watch(one)
	defer m.Watch(two)()
	expect := func(open, entries, up float64) {
		t.Helper()
		for name, want := range map[string]float64{"farebox_reservations_open": open, "farebox_cache_entries": entries, "farebox_store_up": up} {
			if got := sample(t, r, name); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	expect(7, 14, 0)
	if got := sample(t, r, "farebox_revocation_lag_seconds"); got != 2 {
		t.Errorf("lag %v, want the largest lag of the stores", got)
	}
	two.up = true
	expect(7, 14, 1)
	unwatch()
	expect(4, 8, 1)
}

// TestCapsNear checks the counter of caps that are nearly reached. The labels of the
// counter are the kind of holder and the period. No label has a value that a client
// could choose.
func TestCapsNear(t *testing.T) {
	m, r := New(func() int64 { return 0 }), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m.NearCap(ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Account: "acct_1", Lineage: "key_1", Server: "weather"})
	}
	m.NearCap(ledger.Cap{Holder: ledger.HolderServer, Period: ledger.PerMonth, Account: "acct_2", Test: true})
	for labels, want := range map[string]float64{"key day": 2, "server month": 1, "account day": -1} {
		if got := sample(t, r, "farebox_caps_near_total", labels); got != want {
			t.Errorf("%s: %v, want %v", labels, got, want)
		}
	}
}

// TestReplayedIsNotCharged checks that a replayed paid call is counted, but that
// its price is not counted again.
func TestReplayedIsNotCharged(t *testing.T) {
	m, r := New(func() int64 { return 0 }), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	meter := m.Meter("weather")
	meter.Charge("get_*", gate.ResultCaptured, 10_000, false)
	meter.Charge("get_*", gate.ResultReplayed, 10_000, false)
	if got := sample(t, r, "farebox_charges_total", "live", "replayed", "weather", "get_*"); got != 1 {
		t.Errorf("%v replayed", got)
	}
	if got := sample(t, r, "farebox_charged_microunits_total", "live", "weather", "get_*"); got != 10_000 {
		t.Errorf("%v micro-units", got)
	}
}
