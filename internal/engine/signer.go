package engine

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// LoadSigner returns a signer with the seed that the file has in hex digits. If the
// file is missing, it is created.
func LoadSigner(file string) (*ledger.Signer, error) {
	text, err := readPrivate(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makePrivate(file, newSeed())
		if err != nil {
			return nil, fmt.Errorf("writing the receipt key: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the receipt key: %w", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != ed25519.SeedSize {
		return nil, fmt.Errorf("receipt key %s is damaged: restore it, or move it away to have a new one made", file)
	}
	return ledger.NewSigner([ed25519.SeedSize]byte(raw)), nil
}

// newSeed returns the content of a new seed file.
func newSeed() []byte {
	var seed [ed25519.SeedSize]byte
	_, _ = rand.Read(seed[:]) // never fails: crypto/rand ends the program instead
	return []byte(hex.EncodeToString(seed[:]) + "\n")
}
