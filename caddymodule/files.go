package caddymodule

import (
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// makeDir makes a directory that only the user of this process may read.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the store: %w", err)
	}
	return nil
}

// receiptKeyFile returns the default file of the key that signs receipts, beside the
// store.
func receiptKeyFile(store string) string { return store + ".receipt-key" }

func duration(d caddy.Duration) time.Duration { return time.Duration(d) }
