package tap

import "sync/atomic"

// Budget bounds the bytes that a process holds back at once. Its zero value
// holds nothing; any number of goroutines may use it.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// DefaultBudget is how many bytes a process holds back at most.
const DefaultBudget = 256 << 20

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Take takes n bytes and reports whether there were as many left.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) <= b.limit {
		return true
	}
	b.used.Add(-int64(n))
	return false
}

// Give gives n taken bytes back.
func (b *Budget) Give(n int) { b.used.Add(-int64(n)) }

// Used returns how many bytes are held now.
func (b *Budget) Used() int64 { return b.used.Load() }
