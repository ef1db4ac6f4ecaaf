package ledger

import (
	"crypto/sha256"
	"errors"
	"time"
)

// Backup describes a copy of a whole store, as it was at one moment.
type Backup struct {
	At           time.Time         // when the copy began
	Size         int64             // in bytes
	Sum          [sha256.Size]byte // the SHA-256 of the copy
	Schema       int64             // schema version
	Transactions int64             // number of transactions in the journal
}

// Errors of backups. They may be wrapped.
var (
	// ErrBackupRuns says that another backup is being made or fetched.
	ErrBackupRuns = errors.New("a backup is being made already")
	// ErrNoSpace says that the store's disk has no room for the copy.
	ErrNoSpace = errors.New("no space left for the copy")
)
