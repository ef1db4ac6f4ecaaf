package ledger

import (
	"crypto/sha256"
	"errors"
	"time"
)

// Backup describes a copy of a whole store, as it was at one moment.
type Backup struct {
	At           time.Time         // when the copy was begun
	Size         int64             // in bytes
	Sum          [sha256.Size]byte // the SHA-256 of all of it
	Schema       int64             // the version of its schema
	Transactions int64             // how many movements of credits are in it
}

// Errors of making a Backup, wrapped or not.
var (
	// ErrBackupRuns says that a backup is being made or fetched already.
	ErrBackupRuns = errors.New("a backup is being made already")
	// ErrNoSpace says that the store's disk has no room for the copy.
	ErrNoSpace = errors.New("no space left for the copy")
)
