package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is the size of the file system of the SQLite store, in bytes.
const smallDisk = 256 << 20

// mountSmallDisk mounts a small file system, and reports whether it succeeded. Only
// root can mount a file system.
func mountSmallDisk(t *testing.T, dir string) bool {
	t.Helper()
	if err := unix.Mount("farebox", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", smallDisk)); err != nil {
		t.Logf("no small disk, so that no alert of the disk is made: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

// fillDisk fills the small disk except for 2 %, and returns a function that makes room
// again.
func (m *monitored) fillDisk(t *testing.T) (empty func()) {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(m.disk, &stat); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(m.disk, "other")
	free := int64(stat.Bavail) * stat.Bsize
	if err := os.WriteFile(name, make([]byte, free-smallDisk/50), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}
