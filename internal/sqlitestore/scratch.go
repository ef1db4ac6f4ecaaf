package sqlitestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Parts of file names. All these files are in the store's own directory, so that a
// rename never crosses file systems.
const (
	scratchInfix = ".scratch-"        // in the names of temporary files
	keptInfix    = ".before-restore-" // in the names of stores that a restore has replaced
)

// scratchPrefix returns the prefix of the names of temporary files.
func scratchPrefix(path string) string { return "." + filepath.Base(path) + scratchInfix }

// removeLeftovers removes the files that a crash left beside the store: unfinished
// copies, and the second name of a store that an interrupted restore did not
// replace. The caller holds the store's lock, so these files are not in use.
func removeLeftovers(path string) error {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for remains of a crash beside the store: %w", err)
	}
	current, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, entry := range entries {
		name := filepath.Join(dir, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), scratchPrefix(path)):
			err = errors.Join(err, os.RemoveAll(name))
		case current != nil && strings.HasPrefix(entry.Name(), filepath.Base(path)+keptInfix):
			if info, statErr := os.Lstat(name); statErr == nil && os.SameFile(info, current) {
				err = errors.Join(err, os.Remove(name))
			}
		}
	}
	if err != nil {
		return fmt.Errorf("removing the remains of a crash beside the store: %w", err)
	}
	return nil
}

// copyFrom copies the data of an io.Reader to a new file of mode 0600, durably. If seen
// is not nil, copyFrom calls seen(n) with the number of bytes copied so far. An error
// from seen(n) ends the copy.
func copyFrom(from io.Reader, to string, seen func(n int64) error) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	const piece = 1 << 20
	for done := int64(0); ; {
		n, err := io.CopyN(out, from, piece)
		done += n
		if errors.Is(err, io.EOF) {
			return out.Sync()
		}
		if err == nil && seen != nil {
			err = seen(done)
		}
		if err != nil {
			return err
		}
	}
}
