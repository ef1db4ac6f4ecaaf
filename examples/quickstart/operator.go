package main

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
	accountName = "demo"
	lowBalance  = "1.00" // the price of the dearest tool
	topUp       = "5.00"
	keyLife     = "30d"
)

// operator does to the running gateway what a person would do at a shell.
type operator struct {
	binary string
	admin  string
}

// account is what "account show" says of an account.
type account struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	TestBalance string `json:"test_balance"`
}

// key is what "key create" says of a new key. The secret is shown only then.
type key struct {
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	ExpiresAt string `json:"expires_at"`
}

// run runs one command and reads its answer into v, unless v is nil.
func (o operator) run(ctx context.Context, v any, args ...string) error {
	cmd := exec.CommandContext(ctx, o.binary, append(append([]string{"farebox"}, args...), "--json", "--address", o.admin)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	what := strings.Join(args[:2], " ")
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

func (o operator) account(ctx context.Context, name string) (*account, error) {
	a := &account{}
	return a, o.run(ctx, a, "account", "show", name)
}

// ensureAccount makes the account unless an earlier run made it.
func (o operator) ensureAccount(ctx context.Context, name string) error {
	if _, err := o.account(ctx, name); err == nil {
		return nil
	}
	return o.run(ctx, nil, "account", "create", name)
}

// ensureCredits tops the test balance up if it is low, and returns the account
// as it then is.
func (o operator) ensureCredits(ctx context.Context, name string) (*account, error) {
	a, err := o.account(ctx, name)
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
	if err := o.run(ctx, nil, "credit", name, topUp, "--test", "--reason", "quickstart"); err != nil {
		return nil, err
	}
	return o.account(ctx, name)
}

func (o operator) newKey(ctx context.Context, name string) (*key, error) {
	k := &key{}
	return k, o.run(ctx, k, "key", "create", "--account", name, "--name", "quickstart", "--test", "--expires", keyLife)
}

// less compares two decimals exactly.
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
