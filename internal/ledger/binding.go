package ledger

import "time"

// HandleHash identifies a binding by a hash of its handle.
type HandleHash [16]byte

// MaxBinding bounds the payload of a binding in bytes.
const MaxBinding = 4 << 10

// Binding records that a server gave a handle, such as a task id, to an account. The
// server itself cannot check the account, because all callers look alike to the server.
type Binding struct {
	// Server is the name of the server. Two servers may use the same handle.
	Server     string
	HandleHash HandleHash
	Account    string // id of the account
	// Until is the end of the binding, in whole microseconds.
	Until time.Time
	// Payload is opaque data of the binding's creator, at most MaxBinding bytes.
	Payload []byte
}
