package id

import (
	"crypto/sha256"
	"encoding/binary"
)

// Hash returns the SHA-256 of a list of parts. Each part is preceded by its length, so
// that different lists never have the same encoding. The encoding must not change,
// because stores keep these hashes.
func Hash(parts ...string) [sha256.Size]byte {
	var space [512]byte // a buffer on the stack that is large enough for most lists
	return sha256.Sum256(AppendParts(space[:0], parts...))
}

// AppendParts appends the encoding that Hash uses: the length of each part as four
// big-endian bytes, followed by the part.
func AppendParts(b []byte, parts ...string) []byte {
	for _, part := range parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return b
}
