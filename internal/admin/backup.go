package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Backer is a Store that can be copied while it is in use. Backup calls deliver with
// the copy, which is valid until deliver returns.
type Backer interface {
	Backup(ctx context.Context, progress func(done, total int64), deliver func(ledger.Backup, io.Reader) error) error
}

// BackupView describes a backup in JSON. The content of the backup follows the view.
type BackupView struct {
	At           time.Time `json:"at"`
	Size         int64     `json:"size"`   // bytes
	Sum          string    `json:"sha256"` // digest of the content in hex digits
	Schema       int64     `json:"schema_version"`
	Transactions int64     `json:"transactions"`
}

// Backup calls deliver with a copy of the current store.
func (s *Service) Backup(ctx context.Context, progress func(done, total int64), deliver func(ledger.Backup, io.Reader) error) error {
	backer, ok := s.store.(Backer)
	if !ok {
		return refuse(Invalid, "a store of this kind is backed up by its own means, not by this command")
	}
	err := backer.Backup(ctx, progress, deliver)
	switch {
	case errors.Is(err, ledger.ErrBackupRuns):
		return refuse(Conflict, "a backup is being made already: wait until it is done")
	case errors.Is(err, ledger.ErrNoSpace):
		return refuse(Unavailable, "the copy does not fit on the disk of the store: it needs as much space there, for a while, as the store itself")
	}
	return err
}

// ViewBackup returns the view of a backup.
func ViewBackup(b ledger.Backup) BackupView {
	return BackupView{At: b.At.UTC(), Size: b.Size, Sum: hex.EncodeToString(b.Sum[:]), Schema: b.Schema, Transactions: b.Transactions}
}
