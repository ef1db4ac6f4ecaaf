package sqlitestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// ErrLocked means that another process, or another Store in this process, owns the
// file. The wrapping error names the process.
var ErrLocked = errors.New("store is in use")

// fileLock is the exclusive lock beside a store, held for as long as the store is
// open. The lock file stays when the lock is released: removing it would let two
// processes lock two different files of the same name.
type fileLock struct{ file *os.File }

// maxPid bounds the bytes read from a lock file.
const maxPid = 32

// lockFile takes the lock of the store at path and writes this process's id to
// the lock file.
func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the store: %w", err)
	}
	if err := flock(f); err != nil {
		owner := ownerOf(f)
		_ = f.Close() // an error of Close does not matter, because the error below says more
		if errors.Is(err, errWouldBlock) {
			return nil, fmt.Errorf("%w: %s is open in %s", ErrLocked, path, owner)
		}
		return nil, fmt.Errorf("locking the store %s: %w", path, err)
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("writing the lock of the store: %w", err)
	}
	return &fileLock{file: f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func ownerOf(f *os.File) string {
	text, _ := io.ReadAll(io.LimitReader(f, maxPid)) // if the file cannot be read, the owner is unknown
	text = bytes.TrimSpace(text)
	if _, err := strconv.ParseUint(string(text), 10, 32); err != nil {
		return "another process"
	}
	return "process " + string(text)
}

func (l *fileLock) release() error { return l.file.Close() }

// canonical resolves a path to its canonical form, and creates the file if it does
// not exist. It never opens an existing file, because closing the file would drop
// the locks that SQLite holds on it in this process.
func canonical(path string) (string, error) {
	abs, err := inDirectory(path)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		return abs, f.Close()
	case !errors.Is(err, os.ErrExist):
		return "", fmt.Errorf("creating the store: %w", err)
	}
	return locate(path)
}

// locate resolves a path like canonical, but never creates the file: if there is no
// file, the error is fs.ErrNotExist.
func locate(path string) (string, error) {
	abs, err := inDirectory(path)
	if err != nil {
		return "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", fmt.Errorf("store %s: %w", path, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("store %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("store %s is not a regular file", path)
	}
	return abs, nil
}

// inDirectory makes a path absolute and resolves its directory, which must exist.
func inDirectory(path string) (string, error) {
	if path == "" {
		return "", errors.New("the store has no path")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("store %s: %w", path, err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("the directory of the store must exist: %w", err)
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// oneName refuses a file with several hard links, because each of its names would
// have its own lock and log.
func oneName(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	if n := links(info); n > 1 {
		return fmt.Errorf("store %s has %d names (hard links): leave only one", path, n)
	}
	return nil
}
