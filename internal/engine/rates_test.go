package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// testRates returns rates and the clock that they use.
func testRates() (*rates, *time.Duration) {
	r, now := newRates(), new(time.Duration)
	r.now = func() time.Duration { return *now }
	return r, now
}

func at(server string, rate keys.Rate) [2]gate.Bucket {
	return [2]gate.Bucket{{Server: server, Rate: rate}}
}

// TestRatesAreExact checks that a key always gets exactly the requests that a
// textbook token bucket with its rate would allow.
func TestRatesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, now := testRates()
		rate := keys.Rate{
			Requests: rapid.Int64Range(1, 50).Draw(t, "requests"), Per: time.Duration(rapid.Int64Range(1, 100).Draw(t, "seconds")) * time.Second,
			Burst: rapid.Int64Range(1, 50).Draw(t, "burst"),
		}
		every := rate.Every()
		tokens := rate.Burst * int64(every) // the level of an ordinary token bucket, in nanoseconds
		for range 200 {
			pause := time.Duration(rapid.Int64Range(0, int64(3*every)).Draw(t, "pause"))
			*now += pause
			tokens = min(tokens+int64(pause), rate.Burst*int64(every))
			q := r.Take("key_1", at("weather", rate))
			allowed := tokens >= int64(every)
			if allowed {
				tokens -= int64(every)
			}
			want := gate.Quota{Rate: rate, Limit: rate.Burst, Remaining: tokens / int64(every), Reset: time.Duration(rate.Burst*int64(every) - tokens)}
			if !allowed {
				want.Wait = every - time.Duration(tokens)
			}
			if q != want {
				t.Fatalf("got %+v, want %+v", q, want)
			}
		}
	})
}

// TestMovedRatesAreExact checks requests that are first counted in one bucket and then
// moved to the bucket of upkeep (see gate.Bucket). The first bucket is then exactly as
// if the requests had never been counted there. The upkeep bucket counts them by its
// own rate. The returned quota is that of the first bucket, unless the upkeep bucket
// refuses the request.
func TestMovedRatesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, now := testRates()
		only, now2 := testRates() // a second limiter, for comparison: it counts only the calls that are not upkeep
		calls := keys.Rate{Requests: 5, Per: time.Minute, Burst: rapid.Int64Range(1, 5).Draw(t, "burst")}
		upkeep := keys.Rate{Requests: 1, Per: time.Second, Burst: 3}
		from, to := at("weather", calls), [2]gate.Bucket{{Server: "weather", Upkeep: true, Rate: upkeep}}
		free, allowed := time.Duration(0), 0 // free is the instant at which the upkeep bucket is full again
		for range 200 {
			pause := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause"))
			*now += pause
			*now2 += pause
			first := r.Take("key_1", from)
			if rapid.Bool().Draw(t, "a call") {
				if want := only.Take("key_1", from); first != want {
					t.Fatalf("a call: got %+v, want %+v", first, want)
				}
				continue
			}
			got := r.Move("key_1", from, to, first.Wait == 0)
			if free = max(free, *now) + upkeep.Every(); free > *now+3*upkeep.Every() {
				free -= upkeep.Every()
				if got.Wait == 0 || got.Rate != upkeep {
					t.Fatalf("too much upkeep: got %+v", got)
				}
				continue
			}
			allowed++
			want := left(calls, *now, only.full[rateBucket{"key_1", "weather", false}])
			if got != want {
				t.Fatalf("upkeep %d: got %+v, want %+v", allowed, got, want)
			}
		}
	})
}

// TestRatesAreExactUnderConcurrency makes more concurrent requests than the burst
// allows. Exactly the allowed number of requests is served. Each served request gets
// a different number of remaining requests.
func TestRatesAreExactUnderConcurrency(t *testing.T) {
	r, _ := testRates()
	rate := keys.Rate{Requests: 60, Per: time.Minute, Burst: 100}
	var mu sync.Mutex
	seen := make(map[int64]int)
	refused := 0
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for range 10 {
				q := r.Take("key_1", at("weather", rate))
				mu.Lock()
				if q.Wait > 0 {
					refused++
				} else {
					seen[q.Remaining]++
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	if len(seen) != 100 || refused != 540 {
		t.Fatalf("%d were served, %d refused", len(seen), refused)
	}
	for left, n := range seen {
		if n != 1 || left < 0 || left > 99 {
			t.Errorf("%d were told that %d are left", n, left)
		}
	}
}

// TestRatesOfKeyAndServer checks that each lineage has its own counts, one for each
// server and one for all servers together. If one of its two rates refuses a request,
// neither rate counts it. The returned quota is the tighter of the two quotas.
func TestRatesOfKeyAndServer(t *testing.T) {
	r, now := testRates()
	two, three := keys.Rate{Requests: 2, Per: time.Minute, Burst: 2}, keys.Rate{Requests: 3, Per: time.Hour, Burst: 3}
	both := func(server string) [2]gate.Bucket { return [2]gate.Bucket{{Server: server, Rate: two}, {Rate: three}} }
	for i, step := range []struct {
		lineage, server string
		remaining       int64
		wait            time.Duration
	}{
		{"a", "x", 1, 0}, {"a", "x", 0, 0}, {"a", "x", 0, 30 * time.Second}, {"a", "y", 0, 0}, {"a", "y", 0, 20 * time.Minute}, {"b", "x", 1, 0},
	} {
		if q := r.Take(step.lineage, both(step.server)); q.Remaining != step.remaining || q.Wait != step.wait {
			t.Errorf("step %d: %+v, want %+v", i, q, step)
		}
	}
	*now += 20 * time.Minute
	if q := r.Take("a", both("x")); q.Wait != 0 || q.Remaining != 0 || q.Limit != 3 {
		t.Errorf("after 20 minutes: %+v", q)
	}
	if q := r.Take("a", [2]gate.Bucket{}); q != (gate.Quota{}) {
		t.Errorf("without a rate: %+v", q)
	}
}

// TestRatesChange checks that a rate changed by a new config applies at once, and
// that no wait is longer than under the new rate.
func TestRatesChange(t *testing.T) {
	r, _ := testRates()
	slow, fast := keys.Rate{Requests: 1, Per: time.Hour, Burst: 5}, keys.Rate{Requests: 60, Per: time.Minute, Burst: 2}
	for range 5 {
		r.Take("a", at("x", slow))
	}
	if q := r.Take("a", at("x", fast)); q.Wait != time.Second {
		t.Errorf("%+v", q)
	}
}

// TestRatesForget checks that memory is bounded by the number of recently used keys.
// Full buckets are dropped, and their keys gain no requests by that.
func TestRatesForget(t *testing.T) {
	r, now := testRates()
	rate := keys.Rate{Requests: 1, Per: time.Second, Burst: 1}
	for i := range 100_000 {
		*now += time.Millisecond
		r.Take(fmt.Sprint(i), at("x", rate))
	}
	if n := len(r.full); n > 2*minSweep {
		t.Errorf("%d buckets are kept, of 1000 that are not full", n)
	}
	if q := r.Take("99999", at("x", rate)); q.Wait == 0 {
		t.Error("a bucket that was not full was dropped")
	}
}

// TestRatesDoNotAllocate checks that counting a request does not allocate.
func TestRatesDoNotAllocate(t *testing.T) {
	r, _ := testRates()
	rate := keys.Rate{Requests: 1_000_000, Per: time.Second, Burst: 1_000_000}
	if n := testing.AllocsPerRun(1000, func() { r.Take("key_1", at("weather", rate)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
