package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
)

const (
	lowBalance = "1.00" // a balance below this amount, the price of the most expensive tool, is topped up
	topUp      = "5.00"
)

// Operator runs Farebox's commands against a running server, as a person would in a
// shell.
type Operator struct {
	Binary string // the path of the Farebox binary
	Admin  string // the admin address of the server's Caddy
}

// Account is an account in the output of "account show".
type Account struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Balance     string `json:"balance"`
	TestBalance string `json:"test_balance"`
}

// Key is a new key in the output of "key create". No other command shows the secret.
type Key struct {
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	ExpiresAt string `json:"expires_at"`
}

// Run runs one command and decodes its output into v, unless v is nil. If the
// command fails, the error includes the command's error output.
func (o Operator) Run(ctx context.Context, v any, args ...string) error {
	cmd := exec.CommandContext(ctx, o.Binary, append(append([]string{"farebox"}, args...), "--json", "--address", o.Admin)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	what := strings.Join(args[:min(2, len(args))], " ")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("farebox %s: %w: %s", what, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(stdout.Bytes(), v); err != nil {
		return fmt.Errorf("farebox %s: answer is not what was expected: %w", what, err)
	}
	return nil
}

// Account returns the account with the given name.
func (o Operator) Account(ctx context.Context, name string) (*Account, error) {
	a := &Account{}
	return a, o.Run(ctx, a, "account", "show", name)
}

// EnsureAccount makes the account unless it exists from an earlier run.
func (o Operator) EnsureAccount(ctx context.Context, name string) error {
	if _, err := o.Account(ctx, name); err == nil {
		return nil
	}
	return o.Run(ctx, nil, "account", "create", name)
}

// EnsureCredits tops up the account's test balance if it is low, and then returns the
// account. The audit record of the top-up contains the reason.
func (o Operator) EnsureCredits(ctx context.Context, name, reason string) (*Account, error) {
	a, err := o.Account(ctx, name)
	if err != nil {
		return nil, err
	}
	low, err := less(a.TestBalance, lowBalance)
	if err != nil {
		return nil, err
	}
	if !low {
		return a, nil
	}
	if err := o.Run(ctx, nil, "credit", name, topUp, "--test", "--reason", reason); err != nil {
		return nil, err
	}
	return o.Account(ctx, name)
}

// NewKey makes a key of the test environment for the account, by the command "key
// create" with the given further flags.
func (o Operator) NewKey(ctx context.Context, account string, flags ...string) (*Key, error) {
	k := &Key{}
	return k, o.Run(ctx, k, append([]string{"key", "create", "--account", account, "--test"}, flags...)...)
}

// InviteOperator returns the link of an invitation for the operator of the console. It
// returns "" if a person can already sign in.
func (o Operator) InviteOperator(ctx context.Context) (string, error) {
	var persons []struct{}
	if err := o.Run(ctx, &persons, "person", "list"); err != nil || len(persons) > 0 {
		return "", err
	}
	var invitation struct {
		Link string `json:"link"`
	}
	err := o.Run(ctx, &invitation, "console", "invite", "--operator")
	return invitation.Link, err
}

// VerifyLedger replays the books and returns the number of transactions. Its error
// names the problems found.
func (o Operator) VerifyLedger(ctx context.Context) (transactions int64, err error) {
	var v struct {
		Transactions int64 `json:"transactions"`
	}
	err = o.Run(ctx, &v, "ledger", "verify")
	return v.Transactions, err
}

// less reports whether a < b. It compares the decimals exactly.
func less(a, b string) (bool, error) {
	x, ok := new(big.Rat).SetString(a)
	if !ok {
		return false, fmt.Errorf("balance %q is not a number", a)
	}
	y, ok := new(big.Rat).SetString(b)
	if !ok {
		return false, fmt.Errorf("amount %q is not a number", b)
	}
	return x.Cmp(y) < 0, nil
}
