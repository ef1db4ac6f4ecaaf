package ledger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestValidName: names that could be taken for an id, a system account, a path
// or another name are refused.
func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "0", "acme", "acct", "acct-1", "a.b_c-d", "acctx_", strings.Repeat("x", 64)} {
		if err := ledger.ValidName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ledger.Funding, "@x", "acct_", "acct_1", "-a", ".a", "_a", "..", "Acme", "a b", "a/b", "a\x00", "é", "a\n", strings.Repeat("x", 65),
	} {
		if err := ledger.ValidName(name); err == nil {
			t.Errorf("%q is allowed", name)
		} else if !strings.Contains(err.Error(), "1 to 64") {
			t.Errorf("the error for %q does not say what is allowed: %v", name, err)
		}
	}
}

// TestPurses: the two purses of an account are told apart, and what is
// reserved is not available.
func TestPurses(t *testing.T) {
	a := ledger.Account{Live: ledger.Purse{Balance: 10, Reserved: 3}, Sandbox: ledger.Purse{Balance: -2}}
	if a.Purse(false) != a.Live || a.Purse(true) != a.Sandbox {
		t.Error("the purses are mixed up")
	}
	if got := a.Live.Available(); got != 7 {
		t.Errorf("%s is available, want 7", got)
	}
}

// TestInsufficientError is an ErrInsufficient and says how much was there.
func TestInsufficientError(t *testing.T) {
	var err error = &ledger.InsufficientError{Purse: ledger.Purse{Balance: 15_000, Reserved: 5_000}, Needed: 20_000}
	if !errors.Is(err, ledger.ErrInsufficient) {
		t.Error("it is no ErrInsufficient")
	}
	if want := "insufficient balance: 0.02 needed, 0.01 available"; err.Error() != want {
		t.Errorf("it says %q, want %q", err, want)
	}
}

// TestPageSize: no listing is without bound.
func TestPageSize(t *testing.T) {
	for limit, want := range map[int]int{-1: 500, 0: 500, 1: 1, 500: 500, 501: 500} {
		if got := (ledger.Page{Limit: limit}).Size(); got != want {
			t.Errorf("a limit of %d gives %d rows, want %d", limit, got, want)
		}
	}
}
