package telemetry

import (
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestKnown checks that no count is lost when goroutines count under equal and
// different labels at the same time.
func TestKnown(t *testing.T) {
	const goroutines, rounds, labels = 8, 200, 20
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c"}, []string{"l"})
	var k known[string, prometheus.Counter]
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for i := range rounds {
				label := fmt.Sprint(i % labels)
				c, ok := k.find(label)
				if !ok {
					c = k.add(label, vec.WithLabelValues(label))
				}
				c.Inc()
			}
		})
	}
	group.Wait()
	for i := range labels {
		if n := testutil.ToFloat64(vec.WithLabelValues(fmt.Sprint(i))); n != goroutines*rounds/labels {
			t.Errorf("label %d: %v, want %d", i, n, goroutines*rounds/labels)
		}
		if _, ok := k.find(fmt.Sprint(i)); !ok {
			t.Errorf("label %d is not known", i)
		}
	}
}
