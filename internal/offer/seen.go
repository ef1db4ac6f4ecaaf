package offer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fareboxhq/farebox/internal/durable"
)

// Seen is a server's offer at an earlier time.
type Seen struct {
	At      time.Time         `json:"at"`
	Digests map[string]string `json:"items"` // the digest of each item, by Item.Key
}

// Remember replaces the offer in the file with o. It returns the previous offer, or nil
// if the file did not exist.
func Remember(file string, o *Offer, now time.Time) (before *Seen, err error) {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		before = new(Seen)
		if err := json.Unmarshal(text, before); err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", file, err)
		}
	}
	seen := Seen{At: now.UTC(), Digests: make(map[string]string, len(o.Items))}
	for _, item := range o.Items {
		seen.Digests[item.Key()] = item.Digest
	}
	text, err = json.Marshal(seen)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return before, durable.ReplaceFile(file, text, 0o600)
}
