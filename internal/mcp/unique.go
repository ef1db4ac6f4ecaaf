package mcp

import (
	"bytes"
	"cmp"
	"slices"
)

// span is the place of a key's text in the body, without its quotes.
type span struct {
	start, end uint32
	escaped    bool
}

// fewKeys bounds the keys of an object that are compared with each other as they
// arrive. The keys of larger objects are sorted at the object's end, so that no body
// takes time in the square of its length.
const fewKeys = 16

// keySet finds duplicate keys in all objects that are open at once. The zero keySet
// is ready to use.
type keySet struct {
	base [maxDepth + 1]int32 // where the keys of the object at each depth begin
	n    int                 // keys of all open objects
	room [2 * fewKeys]span   // the keys, as long as they fit without an allocation
	heap []span              // then all of them
}

// open begins an object at that depth.
func (ks *keySet) open(depth int) { ks.base[depth] = int32(ks.n) }

// own returns the keys so far of the innermost object, which is at that depth.
func (ks *keySet) own(depth int) []span {
	if ks.heap != nil {
		return ks.heap[ks.base[depth]:]
	}
	return ks.room[ks.base[depth]:ks.n]
}

// add adds a key of the object at that depth. It reports whether the object already
// has it, as far as that is known before the object's end.
func (ks *keySet) add(body []byte, depth int, key span) bool {
	twice := false
	if own := ks.own(depth); len(own) < fewKeys {
		for i := range own {
			if sameKey(body, &own[i], &key) {
				twice = true
				break
			}
		}
	}
	if ks.heap == nil && ks.n < len(ks.room) {
		ks.room[ks.n] = key
		ks.n++
		return twice
	}
	if ks.heap == nil {
		ks.heap = append(make([]span, 0, 4*len(ks.room)), ks.room[:]...)
	}
	ks.heap = append(ks.heap, key)
	ks.n++
	return twice
}

// close ends the object at that depth. It reports whether the object has a duplicate
// key, and the place of the second occurrence's quote.
func (ks *keySet) close(body []byte, depth int) (int, bool) {
	own := ks.own(depth)
	ks.n = int(ks.base[depth])
	if ks.heap != nil {
		ks.heap = ks.heap[:ks.n]
	}
	if len(own) <= fewKeys {
		return 0, false
	}
	slices.SortFunc(own, func(a, b span) int {
		if c := compareKeys(body, &a, &b); c != 0 {
			return c
		}
		return cmp.Compare(a.start, b.start)
	})
	for i := 1; i < len(own); i++ {
		if sameKey(body, &own[i-1], &own[i]) {
			return int(own[i].start) - 1, true
		}
	}
	return 0, false
}

func sameKey(body []byte, a, b *span) bool {
	if a.escaped || b.escaped {
		return compareKeys(body, a, b) == 0
	}
	return a.end-a.start == b.end-b.start && string(body[a.start:a.end]) == string(body[b.start:b.end])
}

// compareKeys orders keys by their unescaped text. It looks at no more of them than
// it needs to distinguish them: one very long key must not cost its length at every
// comparison.
func compareKeys(body []byte, a, b *span) int {
	x, y := body[a.start:a.end], body[b.start:b.end]
	if !a.escaped && !b.escaped {
		return bytes.Compare(x, y)
	}
	for len(x) > 0 && len(y) > 0 {
		r, n := firstRune(x)
		s, m := firstRune(y)
		if r != s {
			return cmp.Compare(r, s) // the order of UTF-8 is that of code points
		}
		x, y = x[n:], y[m:]
	}
	return cmp.Compare(len(x), len(y))
}
