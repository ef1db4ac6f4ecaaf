package gate

import (
	"math"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// neverAsked is a Limiter that must not be asked.
type neverAsked struct{ t *testing.T }

func (l neverAsked) Take(_ string, buckets [2]Bucket) Quota {
	l.t.Errorf("counted against %+v", buckets)
	return Quota{}
}

// A key whose rate is none, as only a database could have it that something else
// has written to, is refused: nothing is counted by it.
func TestOddRateOfKeyIsRefused(t *testing.T) {
	b := newBench(t)
	b.Limiter = neverAsked{t}
	for _, rate := range []keys.Rate{
		{Per: time.Minute}, {Burst: 1}, {Requests: 1, Burst: 1}, {Requests: -1, Per: time.Minute, Burst: 1}, {Requests: 1, Per: time.Minute, Burst: -1},
		{Requests: 1, Per: time.Minute, Burst: math.MaxInt64}, {Requests: math.MaxInt64, Per: math.MaxInt64, Burst: 1},
	} {
		quota, refusal := b.Count(&keys.Key{ID: "key_1", Lineage: "key_1", Limits: &keys.Limits{Rate: rate}})
		if refusal == nil || refusal.Code != PlatformUnavailable || quota != (Quota{}) {
			t.Errorf("%+v: %v", rate, refusal)
		}
	}
	if _, refusal := b.Count(&keys.Key{Limits: &keys.Limits{Day: 1}}); refusal != nil {
		t.Errorf("no rate: %v", refusal)
	}
}
