package cli

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

func receiptKeys(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Shows the public keys that verify receipts, the oldest first", Args: exactly(),
		Long: `Shows the public keys that verify receipts, the oldest first. With --json it
prints them as a JWK set (RFC 7517), to be given to anybody who is to check
receipts. With --offline it reads the file beside the store, also while a
server has the store open.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Begun = true
			fetch := c.serverKeys
			if c.Offline {
				fetch = c.storedKeys
			}
			keys, err := fetch(cmd)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), keys)
			}
			return table.Print(cmd.OutOrStdout(), []string{"KEY", "CURVE", "PUBLIC KEY"}, keys, func(key ed25519.PublicKey) []any {
				return []any{ledger.KeyID(key), "Ed25519", base64.RawURLEncoding.EncodeToString(key)}
			})
		},
	}
}

func verifyReceipt(c *connection) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "verify [<receipt>]", Short: "Checks a receipt", Args: cobra.MaximumNArgs(1),
		Long: `Checks a receipt, the text in _meta["dev.farebox/receipt"] of an answer, and
shows what it says. It is read from standard input if it is not given, or "-".
The exit status is 0 if the receipt is genuine, and 1 if it is not.

The public keys come from --keys, a file with a JWK set: that needs no server
and no store. Without it they are those beside the store that the config names
(--config, or a Caddyfile in this directory), or else the running server's.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Begun = true
			jws, err := givenReceipt(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			keys, err := c.verifyingKeys(cmd, file)
			if err != nil {
				return err
			}
			receipt, id, err := keys.Verify(jws)
			if err != nil {
				return err
			}
			view := receiptView{receipt, receipt.Time().Format(time.RFC3339), id}
			if c.json {
				return printJSON(cmd.OutOrStdout(), view)
			}
			printReceipt(cmd.OutOrStdout(), view)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "keys", "", "A file with the public keys, as receipt keys --json prints them")
	return cmd
}

// receiptView is the JSON form of a verified receipt.
type receiptView struct {
	ledger.Receipt
	Time string `json:"time"` // the receipt's iat, formatted as in RFC 3339
	Key  string `json:"kid"`
}

// printReceipt prints a receipt for people. Control characters in its texts must not
// reach the terminal, because the texts come from the signer, and the signer's key
// may come from anywhere.
func printReceipt(w io.Writer, v receiptView) {
	table.Fields(w, "charge", plain(v.Charge), "payer", plain(v.Payer), "server", plain(v.Server), "tool", plain(v.Tool),
		"amount", freeText(v.Amount, v.Free), "currency", plain(v.Currency), "environment", plain(v.Environment), "time", v.Time, "key", v.Key)
}

// plain returns the text, in quotes if it contains characters that are not printable.
func plain(text string) string {
	if quoted := fmt.Sprintf("%q", text); quoted[1:len(quoted)-1] != text {
		return quoted
	}
	return text
}

// maxReceiptInput bounds a receipt and the white space around it, in bytes.
const maxReceiptInput = 2 * ledger.MaxReceipt

// givenReceipt returns the receipt that the first argument gives. If that argument is
// missing or "-", it reads the receipt from the given input.
func givenReceipt(input io.Reader, args []string) (string, error) {
	text := "-"
	if len(args) > 0 {
		text = args[0]
	}
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(input, maxReceiptInput+1))
		if err != nil {
			return "", fmt.Errorf("reading the receipt: %w", err)
		}
		text = string(read)
	}
	if len(text) > maxReceiptInput {
		return "", fmt.Errorf("%w: it is longer than %d bytes", ledger.ErrReceipt, ledger.MaxReceipt)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", errors.New("the receipt is missing: give it as an argument or on standard input")
	}
	return text, nil
}

// verifyingKeys returns the public keys that verify receipts and archive files. The
// first flag that is set decides where they come from: --keys (the file), --offline
// or --config (the file beside the store), or --address (the server). Without these
// flags they come from the file beside the store that the Caddyfile in the working
// directory names. If there is no such Caddyfile, store or file, they come from the
// running server.
func (c *connection) verifyingKeys(cmd *cobra.Command, file string) (ledger.ReceiptKeys, error) {
	switch {
	case cmd.Flags().Changed("keys"):
		return reach.ReadReceiptKeys(file)
	case c.Offline || c.Config != "":
		return c.storedKeys(cmd)
	case c.Address != "":
		return c.serverKeys(cmd)
	}
	keys, err := c.storedKeys(cmd)
	if errors.Is(err, reach.ErrNoConfig) || errors.Is(err, fs.ErrNotExist) {
		return c.serverKeys(cmd)
	}
	return keys, err
}

// storedKeys returns the public keys in the file beside the store. It does not open
// the store.
func (c *connection) storedKeys(*cobra.Command) (ledger.ReceiptKeys, error) {
	in, err := c.Installation()
	if err != nil {
		return nil, err
	}
	file := engine.ReceiptKeysFile(in.ReceiptKeyFile)
	keys, err := reach.ReadReceiptKeys(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no receipt keys at %s yet: is this the right config, in the right directory? A server makes them when it starts (%w)", file, fs.ErrNotExist)
	}
	return keys, err
}

// serverKeys returns the public keys of the running server, even with --offline.
func (c *connection) serverKeys(cmd *cobra.Command) (ledger.ReceiptKeys, error) {
	server := *c
	server.Offline = false
	raw, err := server.Call(cmd.Context(), ops.ListReceiptKeys.Method, ops.ListReceiptKeys.Path, nil)
	if err != nil {
		return nil, err
	}
	keys, _, err := ledger.ParseReceiptKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return keys, nil
}
