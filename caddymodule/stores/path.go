package stores

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Canonical returns the absolute path of a file, without symbolic links. Two configs
// that spell the path of one file differently get the same result, and so share the
// file. The file and the directories above it need not exist yet.
func Canonical(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		parent := filepath.Dir(absolute)
		if parent == absolute {
			return absolute, nil
		}
		if parent, err = Canonical(parent); err != nil {
			return "", err
		}
		return filepath.Join(parent, filepath.Base(absolute)), nil
	}
	return resolved, err
}
