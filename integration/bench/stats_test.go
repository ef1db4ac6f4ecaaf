package main

import (
	"math"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
		{[]float64{4, 1, 9, 2}, spread{3, 1, 9}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: got %v; want %v", c.values, got, c.want)
		}
	}
	values := []float64{2, 1}
	if spreadOf(values); values[0] != 2 {
		t.Error("the values were sorted in place")
	}
}

func turnAt(row string, rate, gateway float64) turn {
	return turn{row: row, rate: rate, cpu: map[string]float64{gatewayRole: gateway, clientRole: 1000}}
}

// TestRatios checks that a turn is compared with the base's turns beside it and with no
// others: a machine that gets slower evenly does not change the ratio.
func TestRatios(t *testing.T) {
	turns := []turn{
		turnAt("direct", 90000, 0),
		turnAt("caddy", 100, 80), turnAt("unpriced", 45, 120), turnAt("caddy", 80, 100),
		turnAt("paid", 35, 180), turnAt("caddy", 60, 140),
		turnAt("other_base", 1, 1), turnAt("stream", 0.5, 3),
	}
	bases := map[string]string{"unpriced": "caddy", "paid": "caddy", "stream": "other_base", "lost": "caddy"}
	got := ratiosOf(turns, func(row string) string { return bases[row] })
	for row, want := range map[string]ratio{"unpriced": {0.5, 120.0 / 90}, "paid": {0.5, 1.5}, "stream": {0.5, 3}} {
		if len(got[row]) != 1 || math.Abs(got[row][0].rate-want.rate) > 1e-9 || math.Abs(got[row][0].cpu-want.cpu) > 1e-9 {
			t.Errorf("%s: got %v; want %v", row, got[row], want)
		}
	}
	if len(got) != 3 {
		t.Errorf("got ratios of %d rows; want 3: %v", len(got), got)
	}
	if got := ratiosOf([]turn{turnAt("lost", 1, 1), turnAt("direct", 1, 1), turnAt("caddy", 1, 1)}, func(row string) string { return bases[row] }); len(got) != 0 {
		t.Errorf("a row without its base beside it: got %v", got)
	}
	// If the base used no CPU time, the ratio of the CPU times is left out, because it
	// would be infinite.
	idle := ratiosOf([]turn{turnAt("caddy", 2, 0), turnAt("paid", 1, 5)}, func(row string) string { return bases[row] })
	if r := idle["paid"]; len(r) != 1 || r[0] != (ratio{rate: 0.5}) {
		t.Errorf("an idle base: got %v", r)
	}
}

// TestTurn checks that the figures of a turn are the differences between two readings,
// divided by the number of calls.
func TestTurn(t *testing.T) {
	before := reading{cpu: map[string]time.Duration{clientRole: time.Second, gatewayRole: 10 * time.Second}, alloc: memory{Mallocs: 500, TotalAlloc: 9000}}
	after := reading{cpu: map[string]time.Duration{clientRole: 2 * time.Second, gatewayRole: 10*time.Second + 100*time.Millisecond}, alloc: memory{Mallocs: 2500, TotalAlloc: 19000}}
	got := turnOf("paid", 1000, 2*time.Second, before, after)
	if got.row != "paid" || got.calls != 1000 || got.rate != 500 || got.busy != 0.5 {
		t.Errorf("got %+v; want 500 calls/s and a client that is busy half of the time", got)
	}
	if got.cpu[gatewayRole] != 100 || got.cpu[clientRole] != 1000 || len(got.cpu) != 2 {
		t.Errorf("CPU: got %v; want 100 µs in the gateway, 1000 in the client", got.cpu)
	}
	if got.allocs != (allocations{Objects: 2, Bytes: 10}) {
		t.Errorf("allocations: got %+v", got.allocs)
	}
}
