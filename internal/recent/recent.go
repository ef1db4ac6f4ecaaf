// Package recent provides a map that keeps the most recently put entries in bounded
// memory. The entries have no order.
package recent

// A Map with a limit of n holds the n keys that were put last, and possibly older ones,
// up to 2n keys in total. It has two generations of entries. As soon as the newer
// generation has n keys, it replaces the older generation, and a new generation begins.
// A Map is not safe for concurrent use, except that Get and Len may run concurrently
// with each other.
type Map[K comparable, V any] struct {
	limit  int
	newest map[K]V
	older  map[K]V
}

// New returns an empty map. The limit must be positive.
func New[K comparable, V any](limit int) *Map[K, V] {
	return &Map[K, V]{limit: limit, newest: make(map[K]V)}
}

// Get returns the value of a key, and reports whether the map holds the key.
func (m *Map[K, V]) Get(key K) (V, bool) {
	if v, ok := m.newest[key]; ok {
		return v, true
	}
	v, ok := m.older[key]
	return v, ok
}

// Put sets the value of a key. The key then counts as the one that was put last.
func (m *Map[K, V]) Put(key K, value V) {
	if _, ok := m.newest[key]; !ok && len(m.newest) >= m.limit {
		m.newest, m.older = m.older, m.newest
		if m.newest == nil {
			m.newest = make(map[K]V)
		}
		clear(m.newest)
	}
	m.newest[key] = value
}

// Len returns the number of entries in memory. A key that is in both generations counts
// twice.
func (m *Map[K, V]) Len() int { return len(m.newest) + len(m.older) }
