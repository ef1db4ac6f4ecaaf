package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Archiver is a Store from which old transactions can be moved to files. ArchivePart
// returns the same part until Archive has removed it from the store.
type Archiver interface {
	Archived(ctx context.Context) (ledger.Archived, error)
	ArchivePart(ctx context.Context, q ledger.ArchiveQuery) (ledger.ArchivePart, error)
	Archive(ctx context.Context, p *ledger.ArchivePart, sum ledger.Sum, audit ledger.Audit) error
}

// WithSigner sets the signer of receipts and archive files, and returns the service.
// Call it before the service is used.
func (s *Service) WithSigner(signer *ledger.Signer) *Service {
	s.signer = signer
	return s
}

// ArchiveAsk is a request for the next file of the archive.
type ArchiveAsk struct {
	OlderThan string `json:"older_than,omitempty" doc:"Only transactions older than this, such as 9600h; absent: the default age"` // the default is ledger.DefaultArchiveAge
	Most      int    `json:"most,omitempty" doc:"At most this many transactions; absent: the default size"`                        // the default is ledger.DefaultArchivePart
}

// ArchiveFile describes a file of the archive. In a response, the content of the
// file follows the description. If no transactions are old enough, Transactions is
// zero and no file follows.
type ArchiveFile struct {
	Name         string    `json:"name,omitempty"`
	Number       int64     `json:"number"`
	Previous     string    `json:"previous,omitempty"` // SHA-256 in the seal of the previous file
	Sum          string    `json:"sha256,omitempty"`   // SHA-256 in the seal of this file
	Size         int64     `json:"size"`               // bytes
	Transactions int64     `json:"transactions"`
	Charges      int64     `json:"charges"`
	Last         int64     `json:"last"`    // number of the last transaction
	LastAt       time.Time `json:"last_at"` // time of the last transaction
}

// ArchiveTake identifies an archive file that is safely on disk. Its transactions may
// now be removed from the store.
type ArchiveTake struct {
	Number int64  `json:"number"`
	Last   int64  `json:"last"`
	Sum    string `json:"sha256"`
}

// ArchivedView describes the archive in JSON.
type ArchivedView struct {
	Files        int64     `json:"files"`
	Transactions int64     `json:"transactions"`
	Charges      int64     `json:"charges"`
	Last         int64     `json:"last"`
	LastAt       time.Time `json:"last_at"`
	Sum          string    `json:"sha256"`             // SHA-256 in the seal of the last file
	Balances     string    `json:"balances,omitempty"` // hash of all balances at the end of the archive; only in verifications
}

// ViewArchived returns the view of an archive.
func ViewArchived(a ledger.Archived) ArchivedView {
	return ArchivedView{Files: a.Files, Transactions: a.Transactions, Charges: a.Charges, Last: a.Last, LastAt: a.LastAt.UTC(), Sum: a.Sum.String()}
}

func (s *Service) archiver() (Archiver, error) {
	a, ok := s.store.(Archiver)
	switch {
	case !ok:
		return nil, refuse(Invalid, "a store of this kind is archived at the platform, not by this command")
	case s.signer == nil:
		return nil, refuse(Unavailable, "the key that signs receipts is not known here: ask the running server")
	}
	return a, nil
}

// ArchivePart writes the next file of the archive to w. The transactions stay in the
// store until Archive removes them, after the file is on disk.
func (s *Service) ArchivePart(ctx context.Context, ask ArchiveAsk, w io.Writer) (f ArchiveFile, err error) {
	a, err := s.archiver()
	if err != nil {
		return f, err
	}
	age := ledger.DefaultArchiveAge
	if ask.OlderThan != "" {
		if age, err = clock.ParseDuration(ask.OlderThan); err != nil || age < ledger.MinArchiveAge {
			return f, refuse(Invalid, "older than %q is not an age of %d days or more: caps may go by what is younger", ask.OlderThan, ledger.MinArchiveAge/(24*time.Hour))
		}
	}
	p, err := a.ArchivePart(ctx, ledger.ArchiveQuery{Before: s.now().Add(-age), Most: ask.Most})
	if err != nil || len(p.Entries) == 0 {
		return ArchiveFile{Number: p.Number}, err
	}
	counted := &countingWriter{to: w}
	seal, err := archive.Write(counted, &p, s.signer)
	if err != nil {
		return f, err
	}
	return ArchiveFile{
		Name: ledger.ArchiveName(p.Number), Number: p.Number, Previous: seal.Previous, Sum: seal.Sum, Size: counted.n,
		Transactions: seal.Transactions, Charges: p.Charges(), Last: p.Last(), LastAt: time.UnixMicro(p.Entries[len(p.Entries)-1].At).UTC(),
	}, nil
}

// countingWriter counts the bytes that it writes.
type countingWriter struct {
	to io.Writer
	n  int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.n += int64(n)
	return n, err
}

// Archive removes the transactions of an archive file from the store and returns the
// new state of the archive. Before it removes anything, it computes the file's sum
// from the store again and compares the result with take.Sum. Calling Archive again
// with the same file changes nothing.
func (s *Service) Archive(ctx context.Context, actor Actor, take ArchiveTake) (ledger.Archived, error) {
	a, err := s.archiver()
	if err != nil {
		return ledger.Archived{}, err
	}
	done, err := a.Archived(ctx)
	if err != nil || take.Number == done.Files && take.Sum == done.Sum.String() {
		return done, err
	}
	p, err := a.ArchivePart(ctx, ledger.ArchiveQuery{Last: take.Last})
	if err == nil && (p.Number != take.Number || len(p.Entries) == 0) {
		err = ledger.ErrConflict
	}
	var sum ledger.Sum
	if err == nil {
		sum, err = archive.Sum(&p)
	}
	if err == nil && sum.String() != take.Sum {
		err = ledger.ErrConflict
	}
	if err == nil {
		err = a.Archive(ctx, &p, sum, s.audit(actor, "ledger.archive", ledger.ArchiveName(p.Number), struct {
			ArchiveTake
			Transactions int64 `json:"transactions"`
		}{take, int64(len(p.Entries))}))
	}
	if errors.Is(err, ledger.ErrConflict) {
		return ledger.Archived{}, refuse(Conflict, "file %d of the archive is not what the store would take out next: nothing was taken out; archive again", take.Number)
	}
	if err != nil {
		return ledger.Archived{}, err
	}
	return a.Archived(ctx)
}

// Archived returns the state of the archive.
func (s *Service) Archived(ctx context.Context) (ledger.Archived, error) {
	a, err := s.archiver()
	if err != nil {
		return ledger.Archived{}, err
	}
	return a.Archived(ctx)
}

// ArchivedCounts returns the number of archived transactions and the number of
// charges among them.
func (s *Service) ArchivedCounts(ctx context.Context) (transactions, charges int64, err error) {
	a, ok := s.store.(Archiver)
	if !ok {
		return 0, 0, nil
	}
	done, err := a.Archived(ctx)
	return done.Transactions, done.Charges, err
}

// ViewVerification returns the view of a verification.
func ViewVerification(v ledger.Verification) VerificationView {
	view := VerificationView{Accounts: v.Accounts, Transactions: v.Transactions, Differences: append([]string{}, v.Differences...)}
	if v.Archived.Files > 0 {
		archived := ViewArchived(v.Archived)
		archived.Balances = v.Opening.String()
		view.Archived = &archived
	}
	return view
}
