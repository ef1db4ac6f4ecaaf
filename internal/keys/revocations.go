package keys

// HalfDigest is the length of the first half of a digest, in bytes. A node that
// knows the whole digest of a key can recognise the key by the half. But no key can
// be looked up by a half, so halves may be sent to nodes that do not know the keys.
const HalfDigest = 16

// Half is the first half of a digest.
type Half [HalfDigest]byte

// Half returns the first half of the digest.
func (d *Digest) Half() Half { return Half(d[:HalfDigest]) }

// Revocations are changes of keys that other nodes must learn of, in the order in
// which they became durable.
type Revocations struct {
	Digests  []Digest // keys that were changed, created or deleted; may be first halves only
	Position int64    // position in the log after the last change
	// Gap says that changes before the first one may be missing, so that every cached
	// key may be out of date.
	Gap bool
	// More says that the log has further changes after the last one.
	More bool
}
