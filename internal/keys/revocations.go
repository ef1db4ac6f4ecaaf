package keys

// HalfDigest is the number of bytes of a digest that identify a key to a node
// with the whole digest. No key can be looked up by them, so they may be sent to
// others, too.
const HalfDigest = 16

// Half is the first half of a digest.
type Half [HalfDigest]byte

// Half returns the first half of the digest.
func (d *Digest) Half() Half { return Half(d[:HalfDigest]) }

// Revocations are changes of keys for other nodes, in the order in which they
// became durable.
type Revocations struct {
	Digests  []Digest // the keys that were changed, created or deleted; possibly first halves alone
	Position int64    // after the last of them
	// Gap says that changes before the first may be missing, so every cached key
	// is in doubt.
	Gap bool
	// More says that the log has further changes after the last.
	More bool
}
