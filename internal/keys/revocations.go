package keys

import "time"

// HalfDigest is the length of the first half of a digest, in bytes. A node that knows
// the whole digest of a key can recognise the key by the half. A half cannot be used to
// look up a key, so halves may be sent to nodes that do not know the keys.
const HalfDigest = 16

// Half is the first half of a digest.
type Half [HalfDigest]byte

// Half returns the first half of the digest.
func (d *Digest) Half() Half { return Half(d[:HalfDigest]) }

// Revocations are changes of keys that other nodes must learn. The changes are in the
// order in which they became durable.
type Revocations struct {
	Digests  []Digest // digests of keys that were changed, created or deleted; some may have only the first half
	Position int64    // the log's position after the last of these changes
	// Gap says that changes before those in Digests may be missing, so that every
	// cached key may be out of date.
	Gap bool
	// More says that the log has further changes after those in Digests.
	More bool
}

// Lease is the lease of a node that follows the changes of keys in a shared store.
type Lease struct {
	Node string
	// About is the description that the node has stored, or "" if it has none.
	About string
	// Left is the time until the end of the lease, by the clock of the store. It is
	// negative if the lease has ended.
	Left time.Duration
}
