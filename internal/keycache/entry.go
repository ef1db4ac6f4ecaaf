package keycache

import (
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// stamp says how recent an answer of the origin is. Both fields are read before the
// origin is asked, so the answer is at least as recent as its stamp.
type stamp struct {
	generation uint64        // the digest's generation
	asked      time.Duration // since New, on the cache's clock
}

// entry is a cached key. It is immutable.
type entry struct {
	stamp
	key keys.Key
}

// newEntry copies the key into an entry, with at most two further allocations for
// all its strings. The copy takes half the memory of a key that was read from a
// database field by field. If the origin later changes its own key, the copy stays
// the same.
func newEntry(k *keys.Key, s stamp) *entry {
	e := &entry{stamp: s, key: *k}
	e.key.Environment = shared(k.Environment)
	e.key.Successor = "" // left out of the copy, because calls do not need it
	lists := append(append(make([]string, 0, len(k.Scopes)+len(k.Servers)), k.Scopes...), k.Servers...)

	size := len(k.ID) + len(k.Account) + len(k.Name) + len(k.Hint)
	if k.Lineage != k.ID {
		size += len(k.Lineage)
	}
	for _, s := range lists {
		size += len(s)
	}
	var text strings.Builder
	text.Grow(size) // so that the text never moves: the strings below share its memory
	take := func(s string) string {
		from := text.Len()
		text.WriteString(s)
		return text.String()[from:]
	}

	e.key.ID = take(k.ID)
	e.key.Lineage = e.key.ID // the two ids are the same unless a rotation made the key
	if k.Lineage != k.ID {
		e.key.Lineage = take(k.Lineage)
	}
	e.key.Account, e.key.Name, e.key.Hint = take(k.Account), take(k.Name), take(k.Hint)
	for i, s := range lists {
		lists[i] = take(s)
	}
	if k.Limits != nil {
		limits := *k.Limits
		e.key.Limits = &limits
	}
	if k.Proof != nil {
		proof := strings.Clone(*k.Proof)
		e.key.Proof = &proof
	}
	n := len(k.Scopes)
	e.key.Scopes, e.key.Servers = lists[:n:n], lists[n:]
	if k.Scopes == nil {
		e.key.Scopes = nil
	}
	if k.Servers == nil {
		e.key.Servers = nil
	}
	return e
}

// shared returns an environment equal to e that does not keep e's memory alive. If
// one of the constants equals e, shared returns that constant.
func shared(e keys.Environment) keys.Environment {
	switch e {
	case keys.Live:
		return keys.Live
	case keys.Test:
		return keys.Test
	default:
		return keys.Environment(strings.Clone(string(e)))
	}
}
