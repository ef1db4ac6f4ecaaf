package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/durable"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

func backupCommand(c *connection) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "backup <file>", Short: "Copies the store to a file, also while the server serves", Args: exactly("<file>"),
		Long: `Copies the store, as it is at one moment, to a file of mode 0600. It works while
the server serves, and nothing waits for it. The file appears under its name
when it is whole and on disk.

The key that signs receipts is not in it: keep a copy of the file that ends in
.receipt-key, beside the store, as well.`,
		RunE: func(cmd *cobra.Command, args []string) error { c.Begun = true; return backUp(c, cmd, args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "Overwrite the file if it exists")
	return cmd
}

// backupMade is the JSON output of "backup".
type backupMade struct {
	File string `json:"file"`
	admin.BackupView
}

func backUp(c *connection, cmd *cobra.Command, file string, force bool) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if err := mayWrite(file, force); err != nil {
		return err
	}
	made := backupMade{File: file}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	bar := c.bar(cmd, "bytes")
	err = c.Reach(ctx, ops.BackUp.Method, func(ctx context.Context, client *ops.Client) error {
		return client.Fetch(ctx, ops.BackUp.Method, ops.BackUp.Path, nil, bar.Part("copying"), func(head json.RawMessage, content io.Reader) error {
			if err := json.Unmarshal(head, &made.BackupView); err != nil {
				return fmt.Errorf("the server's answer cannot be read: %w", err)
			}
			return writeWhole(file, force, func(w io.Writer) error {
				return receive(w, content, &made.BackupView, bar.Part("receiving"))
			})
		})
	})
	bar.End()
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(cmd.OutOrStdout(), made)
	}
	table.Fields(cmd.OutOrStdout(), "backup", made.File,
		"size", fmt.Sprintf("%s (%d bytes)", humanize.IBytes(uint64(made.Size)), made.Size),
		"transactions", made.Transactions, "schema", made.Schema, "sha256", made.Sum)
	fmt.Fprint(cmd.OutOrStdout(), "\nThe key that signs receipts is not in it: keep a copy of the file that ends in\n.receipt-key, beside the store, as well.\n")
	return nil
}

// interruptible returns a context that an interrupt cancels, so that the command
// can clean up before it exits.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// mayWrite returns an error if the backup must not be written to the given file: if the
// file exists and force is false, if it is not a regular file or is a store, or if its
// directory is missing.
func mayWrite(file string, force bool) error {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return fmt.Errorf("the directory of the backup must exist: %w", err)
		}
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", file)
	case !force:
		return errExists(file)
	}
	if _, err := os.Lstat(file + ".lock"); err == nil {
		return fmt.Errorf("%s is a store itself, not a backup: choose another name", file)
	}
	return nil
}

func errExists(file string) error {
	return fmt.Errorf("%s exists already: choose another name, or overwrite it with --force", file)
}

// receive copies the content to w. It returns an error unless the content has the size
// and SHA-256 that head announces.
func receive(w io.Writer, content io.Reader, head *admin.BackupView, progress func(done, total int64)) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, &counter{sum, 0, head.Size, progress}), io.LimitReader(content, head.Size))
	switch {
	case err != nil:
		return fmt.Errorf("the backup broke off after %d of %d bytes: %w", n, head.Size, err)
	case n != head.Size:
		return fmt.Errorf("the backup broke off after %d of %d bytes: try again", n, head.Size)
	case hex.EncodeToString(sum.Sum(nil)) != head.Sum:
		return errors.New("the backup was damaged on its way: its SHA-256 is not the one that the server announced")
	}
	return nil
}

// counter is a hash that reports how many bytes were written to it.
type counter struct {
	hash.Hash
	done, total int64
	progress    func(done, total int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.done += int64(len(p))
	c.progress(c.done, c.total)
	return c.Hash.Write(p)
}

// writeWhole creates a file of mode 0600, and calls write(w) to write its content. The
// file appears under its name only after its content is on disk. After an error no
// partial file is left.
func writeWhole(file string, force bool, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".partial-*") // CreateTemp uses mode 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() {
		if removed := os.Remove(temp.Name()); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}()
	if err := write(temp); err != nil {
		return errors.Join(err, temp.Close())
	}
	if err := errors.Join(temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := appear(temp.Name(), file, force); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// appear gives the temporary file its final name. If force is false, appear does not
// overwrite a file that another process created in the meantime. On file systems
// without hard links, the check and the rename are two steps, and a file created
// between them is overwritten.
func appear(temp, file string, force bool) error {
	if !force {
		err := os.Link(temp, file)
		if err == nil {
			return nil // writeWhole removes the temporary file
		}
		if _, there := os.Lstat(file); errors.Is(err, fs.ErrExist) || there == nil {
			return errExists(file)
		}
	}
	if err := os.Rename(temp, file); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
