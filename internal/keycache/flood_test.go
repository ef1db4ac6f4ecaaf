package keycache

import (
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// TestJunkEvictsNobody: lookups of 20,000 unknown digests change the hit ratio of
// 10,000 good keys, which fill the cache, by at most a percentage point. Each unknown
// digest costs only one load within the negative TTL.
func TestJunkEvictsNobody(t *testing.T) {
	const good, junk = 10_000, 20_000
	origin, clk := newOrigin(), &fakeClock{}
	cache := newCache(t, origin, Options{Size: good, NegativeTTL: 5 * time.Second, Now: clk.now})
	for i := range good {
		mustLookup(t, cache, origin.add(realistic(i)))
	}
	hits := func() (ratio float64) {
		n := 0
		for i := range good {
			if _, source, _ := inMemory(cache, digestOf(i)); source == SourceCache {
				n++
			}
		}
		return float64(n) / good
	}
	before := hits()
	if before < 0.99 {
		t.Fatalf("hit ratio %.4f to begin with: the test shows nothing", before)
	}
	loads := origin.total.Load()
	for i := range junk {
		wantSource(t, cache, digestOf(good+i), SourceStore, keys.ErrUnknown)
		if i%2 == 0 { // good keys are used meanwhile
			mustLookup(t, cache, digestOf(i%good))
		}
	}
	after := hits()
	if after < before-0.01 || after > before+0.01 {
		t.Errorf("hit ratio %.4f before the flood, %.4f after it", before, after)
	}
	clk.advance(5*time.Second - 1)
	for i := range junk {
		wantSource(t, cache, digestOf(good+i), SourceNegative, keys.ErrUnknown)
	}
	if asked := origin.total.Load() - loads; asked != junk {
		t.Errorf("%d questions for %d unknown digests", asked, junk)
	}
}

// TestAbsenteesAreBounded: at most twice absentBound unknown digests are remembered,
// and the last absentBound of them always are.
func TestAbsenteesAreBounded(t *testing.T) {
	a := newAbsentees()
	const n = 5*absentBound + 17
	for i := range n {
		a.add(digestOf(i), stamp{generation: uint64(i)})
		if held := a.stamps.Len(); held > 2*absentBound {
			t.Fatalf("%d held after %d", held, i+1)
		}
	}
	for i := n - absentBound; i < n; i++ {
		if m, ok := a.get(digestOf(i)); !ok || m.generation != uint64(i) {
			t.Fatalf("the %d-th last is forgotten", n-i)
		}
	}
	if _, ok := a.get(digestOf(0)); ok {
		t.Error("the first is still there")
	}
}

// TestAbsenteesGiveTheLatestStamp: if a digest was added twice, get returns the newer
// stamp, even while the older one is still stored.
func TestAbsenteesGiveTheLatestStamp(t *testing.T) {
	a := newAbsentees()
	a.add(digestOf(-1), stamp{generation: 1})
	for i := range absentBound {
		a.add(digestOf(i), stamp{})
	}
	a.add(digestOf(-1), stamp{generation: 2})
	if m, ok := a.get(digestOf(-1)); !ok || m.generation != 2 {
		t.Errorf("stamp %+v, %v", m, ok)
	}
}
