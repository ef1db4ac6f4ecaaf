//go:build !unix

package caddymodule

// defaultConnections is what a process may be expected to open.
func defaultConnections() int64 { return 1 << 14 }
