//go:build darwin || freebsd || linux

package sqlitestore

import "golang.org/x/sys/unix"

// diskSpace returns two sizes of the file system of a directory, in bytes: the space
// that is free for processes of users other than root, and the whole space.
func diskSpace(dir string) (free, all int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
