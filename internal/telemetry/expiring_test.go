package telemetry

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestExpiringKeys checks that the numbers of keys that expire soon are added up over
// all open stores. There is no sample if a store cannot count its keys, because the sum
// would be too small, and none if no store is open.
func TestExpiringKeys(t *testing.T) {
	m, r := complete(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, want ...float64) {
		t.Helper()
		for i, within := range []string{"1d", "7d", "14d", "30d", "90d"} {
			if got := sample(t, r, "farebox_keys_expiring", within); got != want[i] {
				t.Errorf("%s: within %s %v, want %v", what, within, got, want[i])
			}
		}
	}
	expect("no store", -1, -1, -1, -1, -1)
	one, two := &store{expiring: []int64{0, 1, 2, 3, 4}}, &store{expiring: []int64{0, 0, 10, 10, 20}}
	unwatch := m.Watch(one)
	expect("one store", 0, 1, 2, 3, 4)
	defer m.Watch(two)()
	expect("two stores", 0, 1, 12, 13, 24)
	one.expiring = nil
	expect("one of two is down", -1, -1, -1, -1, -1)
	unwatch()
	expect("the other is left", 0, 0, 10, 10, 20)
	two.expiring = []int64{1}
	expect("an answer to something else", -1, -1, -1, -1, -1)
}

// asked is a Source that records the periods that it was queried for.
type asked struct {
	store
	within []time.Duration
}

func (a *asked) ExpiringKeys(within []time.Duration) ([]int64, bool) {
	a.within = within
	return make([]int64, len(within)), true
}

// TestExpiringWindows checks that a store is queried for exactly the periods that
// the labels name.
func TestExpiringWindows(t *testing.T) {
	m, r, a := complete(), prometheus.NewRegistry(), new(asked)
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	defer m.Watch(a)()
	if got := sample(t, r, "farebox_keys_expiring", "30d"); got != 0 {
		t.Errorf("%v", got)
	}
	if want := []time.Duration{24 * time.Hour, 168 * time.Hour, 336 * time.Hour, 720 * time.Hour, 2160 * time.Hour}; !slices.Equal(a.within, want) {
		t.Errorf("asked for %v", a.within)
	}
}
