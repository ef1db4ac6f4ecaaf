package ops

import (
	"context"
	"io"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

func backupOps() []Op[*admin.Service] { return []Op[*admin.Service]{BackUp} }

// BackUp copies the store. The response is a stream: first an admin.BackupView as the
// result, then the copy, with exactly the size in the view.
var BackUp = DefineStream[*admin.Service, None, admin.BackupView](Operation{
	ID: "backup", Method: http.MethodGet, Path: "/backup", Needs: identity.Operate, Tag: "backup",
	Summary: "Copy the store while it serves", Command: "backup <file>", Problems: []wire.Code{wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, _ *None, out *Stream) error {
	return s.Backup(ctx, out.Progress, func(b ledger.Backup, copied io.Reader) error {
		err := out.Deliver(admin.ViewBackup(b), copied)
		if err == nil {
			out.logger.Info("a backup was made", "by", by.Subject, "from", by.From(), "bytes", b.Size, "transactions", b.Transactions)
		}
		return err
	})
})
