//go:build !unix

package caddymodule

// defaultConnections returns a number of connections that any process can open.
func defaultConnections() int64 { return 1 << 14 }
