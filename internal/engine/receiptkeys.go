package engine

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/fareboxhq/farebox/internal/durable"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// ReceiptKeysFile returns the path of the file with the public receipt keys, beside the
// file with the private key. The returned file holds every key that ever signed
// receipts for the same store.
func ReceiptKeysFile(keyFile string) string { return keyFile + "s.json" }

// ReadReceiptKeys reads a file with a JWK set. It also returns the number of keys in
// it that cannot be receipt keys. Errors name the file; if the file is missing, the
// error is fs.ErrNotExist.
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

// publish adds the key to the public keys in the file, unless the file already has
// it, and returns all keys. No key is ever removed, so receipts stay verifiable after
// the private key is replaced. Only the process that has the store open may call
// publish.
func publish(file string, current ed25519.PublicKey) (ledger.ReceiptKeys, error) {
	keys, ignored, err := ReadReceiptKeys(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("%w\nrestore the file; without it, receipts of replaced keys cannot be verified", err)
	case ignored > 0: // rewriting the file would lose the ignored keys
		return nil, fmt.Errorf("public receipt keys %s: %d of them are not receipt keys: remove them, because the file is only for those of this store", file, ignored)
	case keys.Has(current):
		return keys, nil
	}
	keys = append(keys, current)
	text, err := json.MarshalIndent(keys, "", "  ")
	if err == nil {
		err = durable.ReplaceFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the public receipt keys: %w", err)
	}
	return keys, nil
}

// makePrivate creates a file with a key of the installation and returns its content.
// If several processes start concurrently with the same path, one of them creates the
// file and the others read its content.
func makePrivate(file string, content []byte) ([]byte, error) {
	err := durable.CreateFile(file, content, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return readPrivate(file)
	case err != nil:
		return nil, err
	}
	return content, nil
}
