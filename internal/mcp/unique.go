package mcp

import (
	"bytes"
	"cmp"
	"slices"
)

// span is the place of a key in the body, without its quotes.
type span struct {
	start, end uint32
	escaped    bool
}

// fewKeys is the size up to which the keys of an object are compared pairwise as they
// arrive. The keys of a larger object are sorted at the object's end, so that the time
// is not quadratic in the length of the body.
const fewKeys = 16

// keySet finds duplicate keys in all objects that are open at the same time. The
// zero keySet is ready to use.
type keySet struct {
	base [maxDepth + 1]int32 // index of the first key of the object at each depth
	n    int                 // number of keys of all open objects
	room [2 * fewKeys]span   // holds all keys as long as they fit, to avoid an allocation
	heap []span              // holds all keys if they no longer fit into the array
}

// open begins an object at the given depth.
func (ks *keySet) open(depth int) { ks.base[depth] = int32(ks.n) }

// own returns the keys that have been added to the innermost open object so far. depth
// must be the depth of that object.
func (ks *keySet) own(depth int) []span {
	if ks.heap != nil {
		return ks.heap[ks.base[depth]:]
	}
	return ks.room[ks.base[depth]:ks.n]
}

// add adds a key to the object at the given depth. It reports whether the key is a
// duplicate. After the first fewKeys keys of an object, only close finds duplicates.
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

// close ends the object at the given depth. If the object has more than fewKeys
// keys, close looks for a duplicate among them. It returns the index of the opening
// quote of the duplicate's second occurrence, and true. If the object has at most
// fewKeys keys or no duplicate, close returns false.
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

// compareKeys orders keys by their unescaped text. It unescapes only up to the first
// difference, so that a very long key does not cost its full length in each comparison.
func compareKeys(body []byte, a, b *span) int {
	x, y := body[a.start:a.end], body[b.start:b.end]
	if !a.escaped && !b.escaped {
		return bytes.Compare(x, y)
	}
	for len(x) > 0 && len(y) > 0 {
		r, n := firstRune(x)
		s, m := firstRune(y)
		if r != s {
			return cmp.Compare(r, s) // code points sort as their UTF-8 bytes do
		}
		x, y = x[n:], y[m:]
	}
	return cmp.Compare(len(x), len(y))
}
