package telemetry

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// sample returns the value of the sample with the label values, or -1 if there is no
// such sample.
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
// counts made under the first config. Registering twice is not an error.
func TestCountsOutliveRegistries(t *testing.T) {
	m := complete()
	first, second := prometheus.NewRegistry(), prometheus.NewRegistry()
	for _, r := range []*prometheus.Registry{first, first, second} {
		if err := m.Register(r); err != nil {
			t.Fatal(err)
		}
	}
	m.Site("weather").Request("tools/call", "charged")
	m.Lookup("cache", "found", time.Microsecond)
	for _, r := range []*prometheus.Registry{first, second} {
		if n := sample(t, r, "farebox_requests_total", "charged", "tools/call", "weather"); n != 1 {
			t.Errorf("requests: %v", n)
		}
		if n := sample(t, r, "farebox_key_lookups_total", "found", "cache"); n != 1 {
			t.Errorf("lookups: %v", n)
		}
		if n := sample(t, r, "farebox_share_limit", "memory"); n != 7 {
			t.Errorf("limit of memory: %v", n)
		}
	}
}

// TestChargedAmounts checks that only captures are counted as charged, in units of the
// currency. Live and test calls are counted separately, for every outcome. The refund
// for an undelivered call counts with the amount that was given back.
func TestChargedAmounts(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	meter := m.Site("weather")
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultCaptured, Amount: 10_000, Test: false})
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultCaptured, Amount: 5_000, Test: true})
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultReleased, Amount: 99, Test: false})
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultRefunded, Amount: 99, Test: true})
	meter.Captured(time.Millisecond)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"farebox_charged_amount_total", []string{"live", "weather", "get_*"}, 0.01},
		{"farebox_charged_amount_total", []string{"test", "weather", "get_*"}, 0.005},
		{"farebox_fees_amount_total", []string{"live", "weather"}, -1},
		{"farebox_refunds_total", []string{"test", "undelivered", "weather"}, 1},
		{"farebox_refunded_amount_total", []string{"test", "undelivered", "weather"}, 99e-6},
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
	limit    int
	expiring []int64               // nil if the keys cannot be counted
	sizes    *ledger.Sizes         // nil if the store cannot be measured
	verified *Verified             // nil if the books were never verified
	usage    *ledger.UsageProgress // nil if the progress is unknown

	kind        string
	connections Connections
}

func (s *store) State() State {
	return State{Up: s.up, OpenReservations: s.open, RefundsOwed: s.open, CacheEntries: 2 * s.open, RevocationLag: s.lag, Queue: s.open, QueueLimit: s.limit, Kind: s.kind, Connections: s.connections, Verifies: true}
}

func (s *store) ExpiringKeys([]time.Duration) ([]int64, bool) { return s.expiring, s.expiring != nil }

func (s *store) Sizes() (ledger.Sizes, bool) {
	if s.sizes == nil {
		return ledger.Sizes{}, false
	}
	return *s.sizes, true
}

func (s *store) Verified() (Verified, bool) {
	if s.verified == nil {
		return Verified{}, false
	}
	return *s.verified, true
}

func (s *store) UsageProgress() (ledger.UsageProgress, bool) {
	if s.usage == nil {
		return ledger.UsageProgress{}, false
	}
	return *s.usage, true
}

// TestGauges checks that the gauges are added up over the open stores, and that
// farebox_store_up is 0 if any store is down.
func TestGauges(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
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

// TestCapsNear checks the counter of caps that are nearly reached. Its labels are the
// kind of holder and the period, so no label has a value that a client could choose.
func TestCapsNear(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m.NearCap(ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Account: "acct_1", Lineage: "key_1", Server: "weather"})
	}
	m.NearCap(ledger.Cap{Holder: ledger.HolderServer, Period: ledger.PerMonth, Account: "acct_2", Test: true})
	for labels, want := range map[string]float64{"key day": 2, "server month": 1, "account day": 0} {
		if got := sample(t, r, "farebox_caps_near_total", labels); got != want {
			t.Errorf("%s: %v, want %v", labels, got, want)
		}
	}
}

// TestReplayedIsNotCharged checks that a replayed call is counted as a call, but that
// its price is not counted a second time.
func TestReplayedIsNotCharged(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	meter := m.Site("weather")
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultCaptured, Amount: 10_000, Test: false})
	meter.Charge(gate.Ended{Entry: "get_*", Result: gate.ResultReplayed, Amount: 10_000, Test: false})
	if got := sample(t, r, "farebox_charges_total", "live", "replayed", "weather", "get_*"); got != 1 {
		t.Errorf("%v replayed", got)
	}
	if got := sample(t, r, "farebox_charged_amount_total", "live", "weather", "get_*"); got != 0.01 {
		t.Errorf("%v charged", got)
	}
}

// TestSizesOfStores checks that sizes are added up over the open stores, and that the
// disk space is that of the file system with the least free space. There is no sample
// if any store could not be measured, because the sum over the others would look
// complete.
func TestSizesOfStores(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	of := func(n int64) *ledger.Sizes {
		return &ledger.Sizes{Bytes: map[string]int64{"database": n}, Rows: map[string]int64{"keys": 2 * n}, DiskFree: 10 * n, Disk: 100 * n, Nodes: int(n)}
	}
	one, two := &store{sizes: of(1)}, &store{sizes: of(2)}
	defer m.Watch(one)()
	defer m.Watch(two)()
	for range 2 {
		for name, want := range map[string]float64{
			"farebox_store_bytes database": 3, "farebox_store_rows keys": 6, "farebox_store_disk_free_bytes": 10, "farebox_store_disk_bytes": 100, "farebox_nodes": 3,
		} {
			if two.sizes == nil {
				want = -1
			}
			name, label, _ := strings.Cut(name, " ")
			if got := sample(t, r, name, strings.Fields(label)...); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		two.sizes = nil
	}
}

// TestVerificationOfStores checks that the metrics show the oldest verification, and
// the differences of all stores together. There is no sample before the first
// verification.
func TestVerificationOfStores(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	one, two := &store{}, &store{}
	defer m.Watch(one)()
	defer m.Watch(two)()
	expect := func(at, differences float64) {
		t.Helper()
		if got := sample(t, r, "farebox_ledger_verified_timestamp_seconds"); got != at {
			t.Errorf("verified at %v, want %v", got, at)
		}
		if got := sample(t, r, "farebox_ledger_differences"); got != differences {
			t.Errorf("%v differences, want %v", got, differences)
		}
	}
	expect(-1, -1)
	two.verified = &Verified{At: time.Unix(200, 0), Differences: 3}
	expect(200, 3)
	one.verified = &Verified{At: time.Unix(100, 0), Differences: 1}
	expect(100, 4)
}

// TestUsageProgress checks that the gauges for the sums of usage add up the progress of
// the open stores. The gauges are absent while no store reports its progress.
func TestUsageProgress(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	one, two := &store{}, &store{}
	defer m.Watch(one)()
	defer m.Watch(two)()
	expect := func(pending, lag float64) {
		t.Helper()
		if got := sample(t, r, "farebox_usage_pending_transactions"); got != pending {
			t.Errorf("%v transactions are pending, want %v", got, pending)
		}
		if got := sample(t, r, "farebox_usage_lag_seconds"); got != lag {
			t.Errorf("a lag of %v, want %v", got, lag)
		}
	}
	expect(-1, -1)
	one.usage = &ledger.UsageProgress{Pending: 3, Lag: 2 * time.Second}
	expect(3, 2)
	two.usage = &ledger.UsageProgress{Pending: 4, Lag: time.Second}
	expect(7, 2)
}

// TestExemplars checks that an observed duration has the id of a sampled trace as its
// exemplar.
func TestExemplars(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	s := m.Site("weather")
	s.Overhead(time.Millisecond, "")
	s.Upstream("get_*", 3*time.Millisecond, "4bf92f3577b34da6a3ce929d0e0e4736")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, bucket := range metric.GetHistogram().GetBucket() {
				for _, label := range bucket.GetExemplar().GetLabel() {
					found[f.GetName()] = label.GetName() + "=" + label.GetValue()
				}
			}
		}
	}
	if want := map[string]string{"farebox_upstream_seconds": "trace_id=4bf92f3577b34da6a3ce929d0e0e4736"}; !maps.Equal(found, want) {
		t.Errorf("exemplars %v, want %v", found, want)
	}
}
