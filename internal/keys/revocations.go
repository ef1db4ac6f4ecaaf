package keys

// HalfDigest is how many bytes of a digest are enough to tell which key is meant,
// by whoever knows it. A key cannot be asked for by them, so they may be told to
// whoever does not.
const HalfDigest = 16

// Half is the first half of a digest.
type Half [HalfDigest]byte

// Half returns the first half of the digest.
func (d *Digest) Half() Half { return Half(d[:HalfDigest]) }

// Revocations are changes of keys that others must hear of, in the order in
// which they became durable.
type Revocations struct {
	Digests  []Digest // of the keys that were changed, made or ended; perhaps their first halves alone
	Position int64    // after the last of them
	// Gap says that some before the first may be missing: everything that is
	// known of keys is in doubt.
	Gap bool
	// More says that there are more after the last.
	More bool
}
