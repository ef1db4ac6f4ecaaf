//go:build !windows

package reach

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner returns the name of the user that owns the directory, if that is another user
// than root and this process runs as root. Otherwise owner returns "".
func owner(dir string) string {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return ""
	}
	id := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id // sudo -u accepts an id in this form
}
