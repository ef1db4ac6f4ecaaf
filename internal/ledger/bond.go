package ledger

import "time"

// Mark is what a bond is found by: a hash of what it is about.
type Mark [16]byte

// MaxBond bounds the payload of a bond in bytes.
const MaxBond = 4 << 10

// Bond remembers that an account was given a handle by a server: the id of a
// task, say. To the server all callers look alike, so that nobody else can tell.
type Bond struct {
	// Server is the name of the server. What one has given is nothing to
	// another: each has marks of its own.
	Server  string
	Mark    Mark
	Account string // id
	// Until is when the bond ends, at the resolution of a microsecond.
	Until time.Time
	// Payload is of whoever made the bond, of at most MaxBond bytes.
	Payload []byte
}
