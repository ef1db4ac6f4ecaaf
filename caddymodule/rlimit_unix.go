//go:build unix

package caddymodule

import "syscall"

// defaultConnections returns half of the number of files that the process may open,
// but 16 at least and 16384 at most.
func defaultConnections() int64 {
	const most = 1 << 14
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || uint64(limit.Cur) > 2*most {
		return most
	}
	return max(int64(limit.Cur)/2, 16)
}
