package gate

import (
	"math"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// neverAsked is a Limiter that must not be used.
type neverAsked struct{ t *testing.T }

func (l neverAsked) Take(_ string, buckets [2]Bucket) Quota {
	l.t.Errorf("counted against %+v", buckets)
	return Quota{}
}

func (l neverAsked) Move(_ string, _, buckets [2]Bucket, _ bool) Quota { return l.Take("", buckets) }

// TestOddRateOfKeyIsRefused checks that a key with an invalid rate is refused, and that
// nothing is counted. Such a rate can only come from another program that writes to the
// database.
func TestOddRateOfKeyIsRefused(t *testing.T) {
	b := newBench(t)
	b.deps.Limiter = neverAsked{t}
	for _, rate := range []keys.Rate{
		{Per: time.Minute}, {Burst: 1}, {Requests: 1, Burst: 1}, {Requests: -1, Per: time.Minute, Burst: 1}, {Requests: 1, Per: time.Minute, Burst: -1},
		{Requests: 1, Per: time.Minute, Burst: math.MaxInt64}, {Requests: math.MaxInt64, Per: math.MaxInt64, Burst: 1},
	} {
		key := &keys.Key{ID: "key_1", Lineage: "key_1", Limits: &keys.Limits{Rate: rate}}
		quota, refusal := b.Count(callerFor(key))
		if refusal == nil || refusal.Code != StoreUnavailable || quota != (Quota{}) {
			t.Errorf("%+v: %v", rate, refusal)
		}
		if quota, refusal = b.CountUpkeep(callerFor(key), false); refusal == nil || refusal.Code != StoreUnavailable || quota != (Quota{}) {
			t.Errorf("%+v: %v", rate, refusal)
		}
	}
	if _, refusal := b.Count(callerFor(&keys.Key{Limits: &keys.Limits{Day: 1}})); refusal != nil {
		t.Errorf("no rate: %v", refusal)
	}
	if _, refusal := b.CountUpkeep(callerFor(&keys.Key{}), false); refusal != nil {
		t.Errorf("no rate: %v", refusal)
	}
}

// TestUpkeepIsBounded checks that upkeep has a limit if calls have one. The upkeep rate
// is ten times the rate of calls, but never lower than one per second with a burst of
// 60. So clients can connect even under a very small rate of calls. Computing the
// upkeep rate does not overflow.
func TestUpkeepIsBounded(t *testing.T) {
	for text, want := range map[string]string{
		"1/24h": "60/1m", "1/1m": "60/1m", "5/1m burst 20": "60/1m burst 200", "6/1m": "60/1m", "60/1m burst 100": "600/1m burst 1000",
		"100/1s burst 1": "1000/1s burst 60", "1000000/1s": "10000000/1s", "1000/24h burst 1000": "60/1m burst 10000",
	} {
		rate, err := keys.ParseRate(text)
		if err != nil {
			t.Fatal(err)
		}
		got := upkeepRate(rate)
		if got.String() != want || got.Every() > rate.Every() || got.Every() <= 0 || time.Duration(got.Burst)*got.Every() <= 0 {
			t.Errorf("%s: %s, one in %s; want %s", text, got, got.Every(), want)
		}
	}
	if got := upkeepRate(keys.Rate{}); !got.IsZero() {
		t.Errorf("no rate: %s", got)
	}
}
