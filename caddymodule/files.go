package caddymodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// canonical returns the one spelling of a file's path, so that two configs
// that name one file share it. The file, and directories above it, need not be
// there yet.
func canonical(path string) (string, error) {
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
		if parent, err = canonical(parent); err != nil {
			return "", err
		}
		return filepath.Join(parent, filepath.Base(absolute)), nil
	}
	return resolved, err
}

// makeDir makes a directory for files that only this user may read.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the store: %w", err)
	}
	return nil
}

// receiptKeyFile is where the key that signs receipts is, beside the store.
func receiptKeyFile(store string) string { return store + ".receipt-key" }

func duration(d caddy.Duration) time.Duration { return time.Duration(d) }
