package engine

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// ReceiptKeysFile returns the path of the public keys that belong to a private
// receipt key: of all that ever signed receipts beside the same store.
func ReceiptKeysFile(keyFile string) string { return keyFile + "s.json" }

// ReadReceiptKeys reads a file with a JWK set, and counts the keys in it that
// cannot be those of receipts. Its errors name the file; one that is not there
// is an fs.ErrNotExist.
func ReadReceiptKeys(file string) (keys ledger.ReceiptKeys, ignored int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the public receipt keys: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, ledger.MaxReceiptKeys+1))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the public receipt keys: %w", err)
	}
	if keys, ignored, err = ledger.ParseReceiptKeys(text); err != nil {
		return nil, 0, fmt.Errorf("public receipt keys %s: %w", file, err)
	}
	return keys, ignored, nil
}

// publish sees that the key is among the public ones in the file, and returns
// them all. None is ever taken out: receipts stay verifiable when the private
// key is replaced. Only the process that has the store open may call it.
func publish(file string, current ed25519.PublicKey) (ledger.ReceiptKeys, error) {
	keys, ignored, err := ReadReceiptKeys(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("%w\nrestore the file; without it, receipts of replaced keys cannot be verified", err)
	case ignored > 0: // and would be lost when the file is written
		return nil, fmt.Errorf("public receipt keys %s: %d of them are no keys of receipts: take them out, the file is for this store's alone", file, ignored)
	case keys.Has(current):
		return keys, nil
	}
	keys = append(keys, current)
	text, err := json.MarshalIndent(keys, "", "  ")
	if err == nil {
		err = writeFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the public receipt keys: %w", err)
	}
	return keys, nil
}

// writeFile writes a file durably and whole: after a crash it has its old
// content or the new one.
func writeFile(file string, content []byte, mode fs.FileMode) error {
	return placeFile(file, content, mode, os.Rename)
}

// makePrivate makes a file with a key of the installation, durably and whole, and
// returns what it has. Of several processes that share it and start at once, one
// makes it, and the others get what that one wrote.
func makePrivate(file string, content []byte) ([]byte, error) {
	err := placeFile(file, content, 0o600, linkFile)
	switch {
	case errors.Is(err, fs.ErrExist):
		return readPrivate(file)
	case err != nil:
		return nil, err
	}
	return content, nil
}

// linkFile gives a file its name, and unlike a rename replaces nothing. Where the
// file system has no links, it does what it can.
func linkFile(temp, file string) error {
	err := os.Link(temp, file)
	switch {
	case err == nil:
		return os.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return err
	}
	return os.Rename(temp, file)
}

func placeFile(file string, content []byte, mode fs.FileMode, place func(temp, file string) error) error {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, ".receipt-key-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = io.Copy(temp, bytes.NewReader(content))
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = place(temp.Name(), file)
	}
	if err != nil {
		if gone := os.Remove(temp.Name()); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable. Windows cannot do it, and
// journals them.
func syncDir(dir string) error {
	if goruntime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
