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
	// Changed has, by Item.Key, the time of the latest check that found a changed
	// definition of an item. It has no entry for an item that never changed.
	Changed map[string]time.Time `json:"changed,omitempty"`
}

// Load returns the offer in the file, or nil if the file does not exist.
func Load(file string) (*Seen, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	seen := new(Seen)
	if err := json.Unmarshal(text, seen); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", file, err)
	}
	return seen, nil
}

// Remember replaces the offer in the file with o. It returns the previous offer, or nil
// if the file did not exist.
func Remember(file string, o *Offer, now time.Time) (before *Seen, err error) {
	if before, err = Load(file); err != nil {
		return nil, err
	}
	text, err := json.Marshal(next(before, o, now.UTC()))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return before, durable.ReplaceFile(file, text, 0o600)
}

// next returns the Seen to store for o. It compares o with the previous one to find
// changed definitions.
func next(before *Seen, o *Offer, now time.Time) Seen {
	seen := Seen{At: now, Digests: make(map[string]string, len(o.Items)), Changed: make(map[string]time.Time)}
	for _, item := range o.Items {
		key := item.Key()
		seen.Digests[key] = item.Digest
		if before == nil {
			continue
		}
		if digest, known := before.Digests[key]; known && digest != item.Digest {
			seen.Changed[key] = now
		} else if at, changed := before.Changed[key]; changed {
			seen.Changed[key] = at
		}
	}
	return seen
}
