package recent

import "testing"

// TestBounds checks that a map with the limit n holds the n keys that were put last,
// and at most 2n keys.
func TestBounds(t *testing.T) {
	const limit = 100
	m := New[int, int](limit)
	for i := range 10 * limit {
		m.Put(i, -i)
		if m.Len() > 2*limit {
			t.Fatalf("%d entries after %d keys", m.Len(), i+1)
		}
		for k := max(0, i-limit+1); k <= i; k++ {
			if v, ok := m.Get(k); !ok || v != -k {
				t.Fatalf("after %d: key %d is %d, %v", i, k, v, ok)
			}
		}
	}
	if _, ok := m.Get(0); ok {
		t.Error("the first key is still held")
	}
}

// TestPutAgain checks that a key that is put again has its new value and stays as long
// as a new key does. Putting the same keys again evicts no other keys.
func TestPutAgain(t *testing.T) {
	const limit = 10
	m := New[int, string](limit)
	m.Put(0, "first")
	for i := range 50 * limit {
		m.Put(1000+i, "")
		if i%(limit/2) == 0 {
			m.Put(0, "again")
		}
	}
	if v, ok := m.Get(0); !ok || v != "again" {
		t.Errorf("a key in use was evicted: %q, %v", v, ok)
	}
	small := New[int, int](2)
	small.Put(1, 1)
	small.Put(2, 2)
	for range 10 {
		small.Put(1, 3)
	}
	if _, ok := small.Get(2); !ok || small.Len() != 2 {
		t.Errorf("a repeated Put evicted another key: %d entries", small.Len())
	}
}
