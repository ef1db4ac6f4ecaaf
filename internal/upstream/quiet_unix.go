//go:build unix

package upstream

import (
	"errors"
	"syscall"
)

// quiet reports whether an idle connection is still open and has received nothing.
// Bytes that arrive without a request would be taken for the response to the next
// request (response desynchronization), so such a connection must not be used.
func (k *conn) quiet() bool {
	if k.raw == nil || k.in.Buffered() > 0 {
		return false
	}
	var one [1]byte
	n, problem := 0, error(nil)
	err := k.raw.Read(func(fd uintptr) bool {
		n, problem = syscall.Read(int(fd), one[:])
		return true // true makes Read return at once instead of waiting for bytes
	})
	return err == nil && n < 0 && errors.Is(problem, syscall.EAGAIN)
}
