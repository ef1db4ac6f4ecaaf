//go:build unix

package admin

import (
	"os"
	"syscall"
)

// ownedByUs reports whether the file belongs to the user that runs this process.
func ownedByUs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
