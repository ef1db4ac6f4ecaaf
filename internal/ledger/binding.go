package ledger

import "time"

// HandleHash identifies a binding by a hash of its handle.
type HandleHash [16]byte

// MaxBinding bounds the payload of a binding in bytes.
const MaxBinding = 4 << 10

// Binding records the account that got a handle, such as a task id, from a server.
// The server cannot check that itself, because all callers look alike to it.
type Binding struct {
	// Server is the name of the server. Handles are per server.
	Server     string
	HandleHash HandleHash
	Account    string // id
	// Until is the end of the binding, in whole microseconds.
	Until time.Time
	// Payload is opaque data for the creator, at most MaxBinding bytes.
	Payload []byte
}
