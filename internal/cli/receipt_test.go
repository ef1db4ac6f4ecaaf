package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// endless is a reader that never ends. It counts the bytes that were read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	e.read += len(p)
	return len(p), nil
}

// TestReceiptInputIsBounded checks that endless input is refused after a bounded
// number of bytes, and that an argument longer than any receipt is refused.
func TestReceiptInputIsBounded(t *testing.T) {
	input := new(endless)
	for _, args := range [][]string{nil, {"-"}, {strings.Repeat("A", maxReceiptInput+1)}} {
		if text, err := givenReceipt(input, args); !errors.Is(err, ledger.ErrReceipt) || text != "" {
			t.Errorf("%d arguments: %d bytes, %v", len(args), len(text), err)
		}
	}
	if input.read > 10*maxReceiptInput {
		t.Errorf("%d bytes were read", input.read)
	}
}

// TestReceiptDoesNotSteerTheTerminal checks that printReceipt quotes texts with
// characters that are not printable. The signer of a receipt therefore cannot send
// escape sequences to the terminal.
func TestReceiptDoesNotSteerTheTerminal(t *testing.T) {
	var out bytes.Buffer
	printReceipt(&out, receiptView{Receipt: ledger.Receipt{
		Charge: "chg_1", Tool: "get\x1b[2Jtool", Server: "a\nserver  forged", Payer: "acct_1\u202e", Currency: "\tUSD",
	}, Time: "2026-07-28T12:00:00Z"})
	if text := out.String(); strings.ContainsAny(text, "\x1b\t\u202e") || strings.Count(text, "\n") != 9 || !strings.Contains(text, "chg_1\n") {
		t.Errorf("got %q", text)
	}
}
