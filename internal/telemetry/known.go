package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// known remembers metrics by their labels. It is faster than WithLabelValues of
// Prometheus's library, which takes a lock and compares all labels each time: known
// reads a map that never changes. Adding a metric makes a new map, so known is suitable
// only if the number of different labels is bounded. It is safe for concurrent use.
type known[K comparable, M any] struct {
	list atomic.Pointer[map[K]M]
	mu   sync.Mutex // held while a metric is added
}

// find returns the metric with the labels, or false if no such metric was added.
func (k *known[K, M]) find(labels K) (metric M, ok bool) {
	if list := k.list.Load(); list != nil {
		metric, ok = (*list)[labels]
	}
	return metric, ok
}

// add adds the metric with the labels, and returns it.
func (k *known[K, M]) add(labels K, metric M) M {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make(map[K]M)
	if old := k.list.Load(); old != nil {
		maps.Copy(list, *old)
	}
	list[labels] = metric
	k.list.Store(&list)
	return metric
}
