package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Backer is a Store that can be copied while it works. deliver must have read
// the copy when it returns.
type Backer interface {
	Backup(ctx context.Context, progress func(done, total int64), deliver func(ledger.Backup, io.Reader) error) error
}

// BackupView describes a backup as JSON shows it. The content follows it.
type BackupView struct {
	At           time.Time `json:"at"`
	Size         int64     `json:"size"`   // bytes
	Sum          string    `json:"sha256"` // of the content, in hex digits
	Schema       int64     `json:"schema_version"`
	Transactions int64     `json:"transactions"`
}

// Backup gives deliver a copy of the store as it is now.
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

// backup answers with lines of progress and the BackupView as the result, which
// the content follows: exactly as many bytes as the view says.
func (h *Handler) backup(w http.ResponseWriter, r *http.Request) {
	s := newStream(w)
	err := h.service.Backup(r.Context(), s.progress, func(b ledger.Backup, content io.Reader) error {
		if err := s.end(viewBackup(b)); err != nil {
			return err
		}
		_, err := io.Copy(s, content)
		s.gone = err // what is in the middle of the content is no line
		if err == nil {
			h.logger.Info("a backup was made", "by", h.by(r).Name, "from", h.by(r).From, "bytes", b.Size, "transactions", b.Transactions)
		}
		return err
	})
	if s.gone != nil {
		h.logger.Warn("a backup was given up, because nobody takes it any more", "error", s.gone)
	}
	h.fail(s, r, err)
}

func viewBackup(b ledger.Backup) BackupView {
	return BackupView{At: b.At.UTC(), Size: b.Size, Sum: hex.EncodeToString(b.Sum[:]), Schema: b.Schema, Transactions: b.Transactions}
}
