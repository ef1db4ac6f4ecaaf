package ops

import (
	"bytes"
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

func ledgerOps() []Op[*admin.Service] {
	return []Op[*admin.Service]{ListJournal, VerifyLedger, StartVerification, ShowVerification, ShowArchive, ArchivePart, ArchiveLedger}
}

// ListJournal lists the journal.
var ListJournal = Define(Operation{
	ID: "journal.list", Method: http.MethodGet, Path: "/journal", Needs: identity.View, Tag: "ledger",
	Summary: "List all movements of credits, oldest first", Command: "ledger export",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *Page) (admin.JournalView, error) {
	return s.JournalPage(ctx, in.page())
})

// VerifyLedger verifies the books.
var VerifyLedger = DefineProgress(Operation{
	ID: "ledger.verify", Method: http.MethodPost, Path: "/ledger/verify", Needs: identity.View, Tag: "ledger",
	Summary: "Replay the journal and compare it with all balances", Description: "It reads every transaction.", Command: "ledger verify",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, _ *None, progress Progress) (admin.VerificationView, error) {
	v, err := s.Verify(ctx, progress)
	return admin.ViewVerification(v), err
})

// StartVerification verifies the books in the background.
var StartVerification = Define(Operation{
	ID: "ledger.verification.start", Method: http.MethodPost, Path: "/ledger/verification", Needs: identity.View, Tag: "ledger", Status: http.StatusAccepted,
	Summary: "Start to verify the books, or join the verification that runs", Description: "It goes on when the client has left. Ask for its progress and result by GET, at the same process.",
}, func(_ context.Context, s *admin.Service, _ *identity.Principal, _ *None) (admin.VerificationState, error) {
	s.StartVerification()
	return s.VerificationState(), nil
})

// ShowVerification shows the progress or the result of the last verification.
var ShowVerification = Define(Operation{
	ID: "ledger.verification.show", Method: http.MethodGet, Path: "/ledger/verification", Needs: identity.View, Tag: "ledger",
	Summary: "Show the verification of the books that runs in this process, or its last one",
}, func(_ context.Context, s *admin.Service, _ *identity.Principal, _ *None) (admin.VerificationState, error) {
	return s.VerificationState(), nil
})

// ShowArchive shows the state of the archive.
var ShowArchive = Define(Operation{
	ID: "ledger.archive.show", Method: http.MethodGet, Path: "/ledger/archive", Needs: identity.View, Tag: "ledger",
	Summary: "Show how much of the journal was archived",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, _ *None) (admin.ArchivedView, error) {
	a, err := s.Archived(ctx)
	return admin.ViewArchived(a), err
})

// ArchivePart writes the next file of the archive. The response is a stream with an
// admin.ArchiveFile as its result. The file follows the result.
var ArchivePart = DefineStream[*admin.Service, content[admin.ArchiveAsk], admin.ArchiveFile](Operation{
	ID: "ledger.archive.part", Method: http.MethodPost, Path: "/ledger/archive/part", Needs: identity.Operate, Tag: "ledger",
	Summary: "Write the next file of the archive", Description: "Nothing leaves the store: that is for ledger.archive, once the file is on disk.",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *content[admin.ArchiveAsk], out *Stream) error {
	var content bytes.Buffer
	file, err := s.ArchivePart(ctx, in.Body, &content)
	if err != nil {
		return err
	}
	return out.Deliver(file, &content)
})

// ArchiveLedger removes archived transactions from the store.
var ArchiveLedger = Define(Operation{
	ID: "ledger.archive", Method: http.MethodPost, Path: "/ledger/archive", Needs: identity.Operate, Tag: "ledger",
	Summary: "Remove the transactions of an archive file from the store", Command: "ledger archive <directory>", Audited: true, Problems: []wire.Code{wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *content[admin.ArchiveTake]) (admin.ArchivedView, error) {
	a, err := s.Archive(ctx, actor(by), in.Body)
	return admin.ViewArchived(a), err
})
