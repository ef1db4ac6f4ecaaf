package ledger

import "time"

// Mark is what a binding is found by: a hash of what it is about.
type HandleHash [16]byte

// MaxBond bounds the payload of a binding in bytes.
const MaxBinding = 4 << 10

// Binding remembers that an account was given a handle by a server: the id of a
// task, say. To the server all callers look alike, so that nobody else can tell.
type Binding struct {
	// Server is the name of the server. What one has given is nothing to
	// another: each has marks of its own.
	Server     string
	HandleHash HandleHash
	Account    string // id
	// Until is when the binding ends, at the resolution of a microsecond.
	Until time.Time
	// Payload is of whoever made the binding, of at most MaxBond bytes.
	Payload []byte
}
