package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
)

// loadSealer returns a sealer with the keys in the file. Each line holds one key in
// hex digits. The first key seals. The other keys only open older seals, until the
// time that follows the key, as in "<hex> until 2026-07-28T12:00:00Z". So replacing
// the key breaks no session. If the file is missing, it is created.
func loadSealer(file string, now time.Time) (*gate.Sealer, error) {
	text, err := readPrivate(file)
	if errors.Is(err, fs.ErrNotExist) {
		var key [gate.SealKeySize]byte
		_, _ = rand.Read(key[:]) // never fails: crypto/rand ends the program instead
		if text, err = makePrivate(file, []byte(hex.EncodeToString(key[:])+"\n")); err != nil {
			return nil, fmt.Errorf("writing the sealing key: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the sealing key: %w", err)
	}
	keys, err := parseSealKeys(string(text), now)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", file, err)
	}
	return gate.NewSealer(clock.Now, keys...), nil
}

// readPrivate reads a file with a key of the installation. It fails if other users
// may read the file.
func readPrivate(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s may be read by others: chmod 600 it", file)
	}
	return text, err
}

// parseSealKeys returns the keys that are valid now, beginning with the one that
// seals.
func parseSealKeys(text string, now time.Time) (keys []gate.SealKey, err error) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		digits, until, old := strings.Cut(strings.TrimSpace(line), " until ")
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != gate.SealKeySize {
			return nil, fmt.Errorf("line %d is not a key: want %d hex digits; restore the file, or move it away to have a new one made", i+1, 2*gate.SealKeySize)
		}
		if old != (i > 0) {
			return nil, fmt.Errorf("line %d: the first key seals and has no end, and each other one ends, as in: <key> until 2026-07-28T12:00:00Z", i+1)
		}
		key := gate.SealKey{Key: [gate.SealKeySize]byte(raw)}
		if old {
			end, err := time.Parse(time.RFC3339, until)
			if err != nil {
				return nil, fmt.Errorf("line %d: %q is not a time such as 2026-07-28T12:00:00Z", i+1, until)
			}
			if !now.Before(end) {
				continue
			}
			key.Until = end
		}
		keys = append(keys, key)
	}
	return keys, nil
}
