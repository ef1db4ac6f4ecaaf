package sqlitestore

import (
	"os"

	"golang.org/x/sys/windows"
)

var errWouldBlock error = windows.ERROR_LOCK_VIOLATION

// flock takes the exclusive lock or fails at once. Locks are mandatory on Windows,
// and other processes must be able to read the pid, so the lock covers a byte far
// beyond the pid.
func flock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}

// links returns 1, because the number of hard links is not known here.
func links(os.FileInfo) uint64 { return 1 }
