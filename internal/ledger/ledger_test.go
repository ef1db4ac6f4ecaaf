package ledger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestValidName checks that e-mail addresses and ids of other systems are valid
// names of accounts. Names that look like an account id, a system account, a path or
// another name are refused.
func TestValidName(t *testing.T) {
	for _, name := range []string{
		"a", "0", "acme", "acct", "acct-1", "a.b_c-d", "acctx_", "Acme", strings.Repeat("x", 254),
		"jane.doe+mcp@Example.com", "o'brien@example.com", "auth0|5f7c8ec7c33c6c004bbafe82", "user:123", "user_2NNEqL2nrIRdJ194ndJqAHwEfxC", "base64==", "a~b",
	} {
		if err := ledger.ValidName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ledger.Funding, "@x", "acct_", "acct_1", "ACCT_1", "Acct_0190", "-a", ".a", "_a", "..", "+a", "a b", "a/b", "a\\b", "a%41", "a?b", "a#b", "a{b}", "a\"b",
		"a\x00", "é", "аcme", "a\u200b", "a\n", "a\x7f", strings.Repeat("x", 255),
	} {
		if err := ledger.ValidName(name); err == nil {
			t.Errorf("%q is allowed", name)
		} else if !strings.Contains(err.Error(), "1 to 254") || len(err.Error()) > 1000 {
			t.Errorf("the error for %q does not say what is allowed: %v", name, err)
		}
	}
	if err := ledger.ValidName(strings.Repeat("é", 1<<20)); err == nil || len(err.Error()) > 2000 {
		t.Error("a name without end is repeated in its error")
	}
}

// TestFoldName checks that FoldName changes ASCII letters to lower case, and changes no
// other characters.
func TestFoldName(t *testing.T) {
	for name, want := range map[string]string{"": "", "acme": "acme", "aCmE@X.Y": "acme@x.y", "É": "É", "\u212a": "\u212a"} {
		if got := ledger.FoldName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

// TestBalances checks that an account has separate live and test balances, and that
// reserved amounts are not available.
func TestBalances(t *testing.T) {
	a := ledger.Account{Live: ledger.Balance{Posted: 10, Reserved: 3}, Test: ledger.Balance{Posted: -2}}
	if a.Balance(false) != a.Live || a.Balance(true) != a.Test {
		t.Error("the balances are mixed up")
	}
	if got := a.Live.Available(); got != 7 {
		t.Errorf("%s is available, want 7", got)
	}
}

// TestInsufficientError checks that an InsufficientError is an ErrInsufficient and
// states the needed and the available amount.
func TestInsufficientError(t *testing.T) {
	var err error = &ledger.InsufficientError{Balance: ledger.Balance{Posted: 15_000, Reserved: 5_000}, Needed: 20_000}
	if !errors.Is(err, ledger.ErrInsufficient) {
		t.Error("it is no ErrInsufficient")
	}
	if want := "insufficient balance: 0.02 needed, 0.01 available"; err.Error() != want {
		t.Errorf("it says %q, want %q", err, want)
	}
}

// TestPageSize checks that the size of a page is at least 1 and at most MaxPage, for
// any limit.
func TestPageSize(t *testing.T) {
	for limit, want := range map[int]int{-1: 500, 0: 500, 1: 1, 500: 500, 501: 500} {
		if got := (ledger.Page{Limit: limit}).Size(); got != want {
			t.Errorf("a limit of %d gives %d rows, want %d", limit, got, want)
		}
	}
}
