//go:build unix

package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/inprocess"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

const (
	archiveKillStep = "FAREBOX_TEST_ARCHIVE_KILL" // the step at which the child kills itself
	archiveKillDir  = "FAREBOX_TEST_ARCHIVE_DIR"
)

var archiveKeys = ledger.NewSigner([ed25519.SeedSize]byte{3})

// archiveDir runs the code of "ledger archive" on the store in dir, until all
// transactions older than 40 days are archived, six per file.
func archiveDir(dir string) (err error) {
	s, err := sqlitestore.Open(context.Background(), sqlitestore.Options{Path: filepath.Join(dir, "farebox.db")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	service := admin.New(s, nil, func() *admin.Settings { return new(admin.Settings) }, clock.Now).WithSigner(archiveKeys)
	endpoint := ops.NewAdminEndpoint(identity.As{Subject: "test", Rights: identity.Operator}, slog.New(slog.DiscardHandler))
	ops.Register(endpoint, ops.Always(service), ops.Store())
	client := &ops.Client{HTTP: &http.Client{Transport: inprocess.Transport{Handler: endpoint}}, Host: "test"}
	for {
		f, err := archiveNext(context.Background(), client, dir, admin.ArchiveAsk{OlderThan: "960h", Most: 6}, ledger.ReceiptKeys{archiveKeys.Public()})
		if err != nil || f.Transactions == 0 {
			return err
		}
	}
}

// history makes a store in dir with 21 transactions that are 100 days old: top-ups,
// charges with fees, and refunds. It returns the balances by account name.
func history(t *testing.T, dir string) (balances map[string]ledger.Amount) {
	t.Helper()
	past := func() time.Time { return clock.Now().Add(-100 * 24 * time.Hour) }
	s, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: filepath.Join(dir, "farebox.db"), Now: past})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	var accounts [3]string
	for i, name := range [...]string{"payer", "provider", "operator"} {
		accounts[i] = ids.New("acct_")
		if err := s.CreateAccount(t.Context(), ledger.Account{ID: accounts[i], Name: name}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	post := func(p ledger.Transaction) {
		p.ID, p.Reason = ids.New("txn_"), "test"
		if _, _, err := s.PostTransaction(t.Context(), p, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	post(ledger.Transaction{Kind: ledger.KindCredit, Creditor: accounts[0], Amount: 10_000})
	for i := range 9 {
		o := ledger.Order{Account: accounts[0], Provider: accounts[1], Key: "key_1", Lineage: "key_1", Server: "s", Tool: "t", Amount: 100, Fee: 10, FeeTo: accounts[2]}
		id := ids.New("chg_")
		if _, _, err := s.Charge(t.Context(), id, o, ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			post(ledger.Transaction{Kind: ledger.KindRefund, Charge: id, Amount: 50})
		}
	}
	return balancesOf(t, s)
}

func balancesOf(t *testing.T, s *sqlitestore.Store) map[string]ledger.Amount {
	t.Helper()
	list, _, err := s.Accounts(t.Context(), ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]ledger.Amount{}
	for _, a := range list {
		found[a.Name] = a.Live.Posted
	}
	return found
}

// whole checks that the store and the archive in dir together hold the transactions
// that history made.
func whole(t *testing.T, dir string, balances map[string]ledger.Amount) (archived ledger.Archived) {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: filepath.Join(dir, "farebox.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	v, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	chain := archive.Verify(os.DirFS(dir), v.Archived.Files, ledger.ReceiptKeys{archiveKeys.Public()}, func(int64, int64) {})
	for _, d := range append(v.Differences, chain.Differences...) {
		t.Error(d)
	}
	if chain.Balances != v.Opening || chain.Last.Sum != v.Archived.Sum.String() || chain.Transactions+v.Transactions != 21 {
		t.Errorf("%d transactions in the archive and %d in the store, want 21 in all: %+v, %+v", chain.Transactions, v.Transactions, chain, v)
	}
	for name, amount := range balancesOf(t, s) {
		if amount != balances[name] {
			t.Errorf("%s has %s, want %s", name, amount, balances[name])
		}
	}
	return v.Archived
}

// TestArchiveChild runs in the child process that TestArchiveKilled starts. It calls
// archiveDir. The environment variable archiveKillStep names a step. TestArchiveChild
// kills its own process when archiveDir reaches this step while it makes the second
// file.
func TestArchiveChild(t *testing.T) {
	step := os.Getenv(archiveKillStep)
	if step == "" {
		t.Skip("runs only as the child of TestArchiveKilled")
	}
	times := 0
	archiveStep = func(at string) {
		if at != step {
			return
		}
		if times++; times == 2 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
		}
	}
	t.Fatalf("it was not killed at %q: %v", step, archiveDir(os.Getenv(archiveKillDir)))
}

// TestArchiveKilled checks that promises 4 and 5 of docs/promises.md hold when
// archiving is killed (SIGKILL) at any step: the store and the archive together hold
// each transaction exactly once, both right after the kill and after the command has
// run again.
func TestArchiveKilled(t *testing.T) {
	for step, files := range map[string]int64{"begun": 1, "writing": 1, "written": 1, "checked": 1, "taken": 2} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			balances := history(t, dir)
			child := exec.Command(os.Args[0], "-test.run", "^TestArchiveChild$")
			child.Env = append(os.Environ(), archiveKillStep+"="+step, archiveKillDir+"="+dir)
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v: %s", err, out)
			}
			if got := whole(t, dir, balances); got.Files != files {
				t.Errorf("%d files are recorded, want %d", got.Files, files)
			}
			if err := archiveDir(dir); err != nil {
				t.Fatalf("once more: %v", err)
			}
			if got := whole(t, dir, balances); got.Transactions != 21 {
				t.Errorf("%d transactions are archived, want all 21", got.Transactions)
			}
		})
	}
}

// TestArchiveOfAnother checks that archiving into a directory with a file of another
// archive fails. It neither overwrites that file nor changes the store.
func TestArchiveOfAnother(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	balances := history(t, dir)
	history(t, other)
	if err := archiveDir(other); err != nil {
		t.Fatal(err)
	}
	first := ledger.ArchiveName(1)
	theirs, err := os.ReadFile(filepath.Join(other, first))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, first), theirs, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := archiveDir(dir); err == nil {
		t.Error("a file of another archive was overwritten")
	}
	if err := os.Remove(filepath.Join(dir, first)); err != nil {
		t.Fatal(err)
	}
	if got := whole(t, dir, balances); got.Files != 0 {
		t.Errorf("%d files are recorded", got.Files)
	}
}
