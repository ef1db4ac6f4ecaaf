package offer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Seen is what a server offered when it was asked last.
type Seen struct {
	At      time.Time         `json:"at"`
	Digests map[string]string `json:"items"` // by Item.Key
}

// Remember returns what a file says was seen before, nil if there is none, and
// makes it say what is offered now.
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
	return before, write(file, text)
}

// write replaces the file's content, whole or not at all.
func write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".seen-*") // for its user alone
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // what is wrong is told already
	}
	return err
}
