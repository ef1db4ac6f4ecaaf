package keycache

import (
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// mark says when an answer of the origin was asked for. Both are read before
// the question, so that the answer is at least as new as its mark.
type mark struct {
	generation uint64        // the digest's
	asked      time.Duration // since the cache began
}

// entry is a cached key. It is never changed once it is made.
type entry struct {
	mark
	key keys.Key
}

// newEntry copies the key into an entry of its own, which takes two further
// allocations at most whatever the key's origin made of its texts. It halves
// the memory of a key that was read from a database field by field, and
// nothing that the origin does to its key later can reach the cache.
func newEntry(k *keys.Key, m mark) *entry {
	e := &entry{mark: m, key: *k}
	e.key.Environment = shared(k.Environment)
	e.key.Successor = "" // of no use to a call, and a text of its own
	lists := append(append(make([]string, 0, len(k.Scopes)+len(k.Servers)), k.Scopes...), k.Servers...)

	size := len(k.ID) + len(k.Account) + len(k.Name) + len(k.Hint)
	if k.Lineage != k.ID {
		size += len(k.Lineage)
	}
	for _, s := range lists {
		size += len(s)
	}
	var text strings.Builder
	text.Grow(size) // so that what was taken from it stays in place
	take := func(s string) string {
		from := text.Len()
		text.WriteString(s)
		return text.String()[from:]
	}

	e.key.ID = take(k.ID)
	e.key.Lineage = e.key.ID // of a key that rotation did not make
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

// shared returns the environment with the text of the constant.
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
