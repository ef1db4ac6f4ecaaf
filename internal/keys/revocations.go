package keys

// Revocations are changes of keys that others must hear of, in the order in
// which they became durable.
type Revocations struct {
	Digests  []Digest // of the keys that were changed, made or ended
	Position int64    // after the last of them
	// Gap says that some before the first may be missing: everything that is
	// known of keys is in doubt.
	Gap bool
	// More says that there are more after the last.
	More bool
}
