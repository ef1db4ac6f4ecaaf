package sqlitestore

import (
	"os"

	"golang.org/x/sys/windows"
)

var errWouldBlock error = windows.ERROR_LOCK_VIOLATION

// flock takes the exclusive lock or fails at once. Locks are mandatory on Windows,
// so it covers a byte far beyond the pid, which other processes must be able to
// read.
func flock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}

// links returns the number of hard links to the file, which is not known here.
func links(os.FileInfo) uint64 { return 1 }
