package harness

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Account is the output of "account show".
type Account struct {
	ID           string        `json:"id"`
	Name         string        `json:"name"`
	Balance      ledger.Amount `json:"balance"`
	Reserved     ledger.Amount `json:"reserved"`
	TestBalance  ledger.Amount `json:"test_balance"`
	TestReserved ledger.Amount `json:"test_reserved"`
}

// Charge is an element of the output of "charge list".
type Charge struct {
	ID          string        `json:"id"`
	Account     string        `json:"account"`
	Server      string        `json:"server"`
	Tool        string        `json:"tool"`
	Amount      ledger.Amount `json:"amount"`
	Free        bool          `json:"free"`
	Fee         ledger.Amount `json:"fee"`
	Refunded    ledger.Amount `json:"refunded"`
	Environment string        `json:"environment"`
	State       string        `json:"state"`
}

// Key is the output of "key create".
type Key struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// NewAgent makes an account and an agent key for it, and credits the account. If
// credits is "", the account gets no credits.
func (g *Gateway) NewAgent(t testing.TB, name, credits string) (Account, Key) {
	t.Helper()
	g.CLI(t, nil, "account", "create", name)
	if credits != "" {
		g.CLI(t, nil, "credit", name, credits, "--reason", "for the test")
	}
	return g.Account(t, name), g.NewKey(t, name)
}

// NewKey makes an agent key for the account. flags are further flags of the command
// "key create".
func (g *Gateway) NewKey(t testing.TB, account string, flags ...string) Key {
	t.Helper()
	var k Key
	g.CLI(t, &k, append([]string{"key", "create", "--account", account}, flags...)...)
	g.AddSecret(k.Secret)
	return k
}

// Account returns an account by its name or id.
func (g *Gateway) Account(t testing.TB, name string) Account {
	t.Helper()
	var a Account
	g.CLI(t, &a, "account", "show", name)
	return a
}

// Charges returns all charges of an account, newest first.
func (g *Gateway) Charges(t testing.TB, account string) []Charge {
	t.Helper()
	var charges []Charge
	g.CLI(t, &charges, "charge", "list", "--account", account, "--limit", "0")
	return charges
}

// VerifyLedger replays the books and requires that they balance.
func (g *Gateway) VerifyLedger(t testing.TB) {
	t.Helper()
	g.CLI(t, nil, "ledger", "verify")
}
