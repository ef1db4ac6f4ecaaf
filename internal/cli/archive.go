package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// archiveStep is called at each step of archiveNext, so that tests can kill the
// process there.
var archiveStep = func(string) {}

func archiveLedger(c *connection) *cobra.Command {
	var olderThan string
	var most int
	cmd := &cobra.Command{
		Use: "archive <directory>", Short: "Moves old transactions from the store to signed files", Args: exactly("<directory>"),
		Long: fmt.Sprintf(`Moves transactions that are older than --older-than, %d days unless another age
is given and never less than %d, from the store to files in the directory, also
while the server serves. Balances, caps and quotas do not change.

Each file has some thousand transactions as JSON lines, with the balances before
and after, the SHA-256 of the file before, and a seal by the key that signs
receipts. A file is on disk, and was read again and checked, before its
transactions are taken out of the store. If the command is broken off, run it
again with the same directory: nothing is lost, and nothing counted twice.

What was archived is not listed any more, and cannot be refunded: charge show
names the file that it is in. Keep the files: ledger verify --archive reads
them, and the books before the store's first transaction are nowhere else.`,
			ledger.DefaultArchiveAge/(24*time.Hour), ledger.MinArchiveAge/(24*time.Hour)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := admin.ArchiveAsk{Most: most}
			if olderThan != "" {
				d, err := clock.ParseDuration(olderThan)
				if err != nil || d <= 0 {
					return fmt.Errorf("--older-than %q is not an age, such as 400d", olderThan)
				}
				ask.OlderThan = d.String()
			}
			return archiveAll(c, cmd, args[0], ask)
		},
	}
	cmd.Flags().StringVar(&olderThan, "older-than", "", fmt.Sprintf("The age of what is archived, as 400d (default: %dd)", ledger.DefaultArchiveAge/(24*time.Hour)))
	cmd.Flags().IntVar(&most, "per-file", ledger.DefaultArchivePart, "How many transactions a file has at most; captures wait while they are taken out")
	return cmd
}

// archivedNow is the JSON output of "ledger archive".
type archivedNow struct {
	Directory string              `json:"directory"`
	Made      []admin.ArchiveFile `json:"made"`
	Archived  admin.ArchivedView  `json:"archived"`
}

func archiveAll(c *connection, cmd *cobra.Command, dir string, ask admin.ArchiveAsk) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("the directory of the archive must exist: %s is not a directory", dir)
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	now := archivedNow{Directory: dir, Made: []admin.ArchiveFile{}}
	// Archive one part after the other. Each part needs two requests: the first fetches
	// the part, and the second removes the part from the store.
	err = c.Reach(ctx, ops.ArchiveLedger.Method, func(ctx context.Context, client *ops.Client) error {
		keys, err := sealKeys(ctx, client)
		if err != nil {
			return err
		}
		for ctx.Err() == nil {
			made, err := archiveNext(ctx, client, dir, ask, keys)
			if err != nil {
				return err
			}
			if made.Transactions == 0 {
				break
			}
			now.Made = append(now.Made, made)
		}
		raw, err := client.Do(ctx, ops.ShowArchive.Method, ops.ShowArchive.Path, nil)
		if err == nil {
			err = json.Unmarshal(raw, &now.Archived)
		}
		return err
	})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if c.json {
		return printJSON(out, now)
	}
	for _, f := range now.Made {
		fmt.Fprintf(out, "%s: %d transactions, to %s (%s)\n", f.Name, f.Transactions, f.LastAt.Format(time.RFC3339), humanize.IBytes(uint64(f.Size)))
	}
	if len(now.Made) == 0 {
		fmt.Fprintln(out, "There is nothing of that age to archive.")
	}
	fmt.Fprintf(out, "The archive has %d files with %d transactions.\n", now.Archived.Files, now.Archived.Transactions)
	return nil
}

// sealKeys returns the keys that verify the seals of archive files.
func sealKeys(ctx context.Context, client *ops.Client) (ledger.ReceiptKeys, error) {
	raw, err := client.Do(ctx, ops.ListReceiptKeys.Method, ops.ListReceiptKeys.Path, nil)
	if err != nil {
		return nil, err
	}
	keys, _, err := ledger.ParseReceiptKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return keys, nil
}

// archiveNext writes the next archive file, then removes its transactions from the
// store. The returned file has no transactions if nothing is left to archive.
func archiveNext(ctx context.Context, client *ops.Client, dir string, ask admin.ArchiveAsk, keys ledger.ReceiptKeys) (f admin.ArchiveFile, err error) {
	archiveStep("begun")
	err = client.Fetch(ctx, ops.ArchivePart.Method, ops.ArchivePart.Path, ask, nil, func(head json.RawMessage, content io.Reader) error {
		if err := json.Unmarshal(head, &f); err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		if f.Transactions == 0 {
			return nil
		}
		if err := follows(dir, &f, keys); err != nil {
			return err
		}
		return writeWhole(filepath.Join(dir, f.Name), f.Number > 1, func(w io.Writer) error {
			archiveStep("writing")
			n, err := io.Copy(w, io.LimitReader(content, f.Size))
			if err == nil && n != f.Size {
				err = fmt.Errorf("%s broke off after %d of %d bytes: try again", f.Name, n, f.Size)
			}
			return err
		})
	})
	if err != nil || f.Transactions == 0 {
		return f, err
	}
	archiveStep("written")
	// Check the file on disk, not the bytes received: only the file survives a crash.
	if err := sealedAs(dir, f.Name, f.Sum, keys); err != nil {
		return f, err
	}
	archiveStep("checked")
	if _, err := client.Do(ctx, ops.ArchiveLedger.Method, ops.ArchiveLedger.Path, admin.ArchiveTake{Number: f.Number, Last: f.Last, Sum: f.Sum}); err != nil {
		return f, err
	}
	archiveStep("taken")
	return f, nil
}

// follows checks that f can be written to dir without overwriting a file of another
// archive. The directory must hold the file before f, with the sum f.Previous. If f is
// the first file, dir must not hold a file of that name. The exception is a file that
// has the content of f. An earlier run left this file when it crashed before it
// recorded the file in the store, so follows removes it.
func follows(dir string, f *admin.ArchiveFile, keys ledger.ReceiptKeys) error {
	if f.Number > 1 {
		return sealedAs(dir, ledger.ArchiveName(f.Number-1), f.Previous, keys)
	}
	file := filepath.Join(dir, f.Name)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if sealedAs(dir, f.Name, f.Sum, keys) == nil {
		return os.Remove(file) // an earlier run left the file when it crashed
	}
	return fmt.Errorf("%s is there already, and this store has not archived anything yet: is it of another store? If it was left by a run with other options, move it away", file)
}

// sealedAs checks that the named archive file has a valid seal, content that matches
// the seal, and the given sum.
func sealedAs(dir, name, sum string, keys ledger.ReceiptKeys) error {
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("the archive goes on where it was begun, in the directory with %s: %w", name, err)
	}
	defer file.Close()
	seal, err := archive.Read(file, keys, archive.Visitor{})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", file.Name(), err)
	case seal.Sum != sum:
		return fmt.Errorf("%s is a file of another archive: the store has recorded the sum %s, and its seal has %s", file.Name(), sum, seal.Sum)
	}
	return nil
}

// verified is the JSON output of "ledger verify".
type verified struct {
	admin.VerificationView
	Archive *verifiedArchive `json:"archive,omitempty"`
}

// verifiedArchive counts the archive files that were read, and their transactions.
type verifiedArchive struct {
	Files        int64 `json:"files"`
	Transactions int64 `json:"transactions"`
}

// verifyArchive reads the archive in dir, and appends each disagreement with the store
// to v.Differences. It returns nil if dir is "".
func verifyArchive(c *connection, cmd *cobra.Command, dir string, v *admin.VerificationView) (*verifiedArchive, error) {
	if dir == "" {
		return nil, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--archive: %s is not a directory", dir)
	}
	if v.Archived == nil {
		return &verifiedArchive{}, nil
	}
	keys, err := c.verifyingKeys(cmd, "")
	if err != nil {
		return nil, err
	}
	bar := c.bar(cmd, "files")
	chain := archive.Verify(os.DirFS(dir), v.Archived.Files, keys, bar.Part("reading the archive"))
	bar.End()
	v.Differences = append(v.Differences, chain.Differences...)
	switch {
	case len(chain.Differences) > 0:
	case chain.Last.Sum != v.Archived.Sum || chain.Last.Last != v.Archived.Last || chain.Transactions != v.Archived.Transactions:
		v.Differences = append(v.Differences, fmt.Sprintf("the archive ends with transaction %d and the sum %s, but the store has recorded %d and %s",
			chain.Last.Last, chain.Last.Sum, v.Archived.Last, v.Archived.Sum))
	case chain.Balances.String() != v.Archived.Balances:
		v.Differences = append(v.Differences, "the archive leads to other balances than those that the store begins with")
	}
	return &verifiedArchive{chain.Files, chain.Transactions}, nil
}

// printArchived prints the number of transactions in the archive. read has the counts
// from verifyArchive, or is nil if the archive files were not verified.
func printArchived(w io.Writer, v *admin.VerificationView, read *verifiedArchive) {
	switch {
	case v.Archived == nil:
	case read != nil:
		fmt.Fprintf(w, "The archive leads there: %d transactions in %d files, to %s.\n", read.Transactions, read.Files, v.Archived.LastAt.Format(time.RFC3339))
	default:
		fmt.Fprintf(w, "They begin after %d archived transactions, to %s, with the balances recorded there: verify those with --archive <directory>.\n",
			v.Archived.Transactions, v.Archived.LastAt.Format(time.RFC3339))
	}
}
