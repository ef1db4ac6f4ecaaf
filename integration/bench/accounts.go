package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// credits is the balance that each new account gets. It covers the calls of any
// measurement.
const credits = ledger.Amount(1_000_000_000_000) // 1,000,000.00 in units of the currency

// accounts makes accounts at a Farebox gateway through its admin endpoint. Only one
// goroutine may use it.
type accounts struct {
	client *ops.Client
	made   int
}

// newAccounts returns a value that makes accounts at the gateway with this admin
// address. dir is the directory of the file with the admin endpoint's token.
func newAccounts(address, dir string) *accounts {
	return &accounts{client: &ops.Client{HTTP: http.DefaultClient, Host: address, Token: func() (string, error) {
		return admin.ReadToken(admin.TokenFile(dir, address))
	}}}
}

// ready returns nil once the gateway has opened its store.
func (a *accounts) ready(ctx context.Context) error {
	return a.ask(ctx, http.MethodGet, "accounts", nil, nil)
}

// account is an account with credits and a key.
type account struct {
	accounts *accounts
	name     string
	secret   string
}

// fresh makes an account with credits and a key.
func (a *accounts) fresh(ctx context.Context) (*account, error) {
	a.made++
	made := &account{accounts: a, name: fmt.Sprintf("turn-%d", a.made)}
	if err := a.ask(ctx, http.MethodPost, "accounts", map[string]any{"name": made.name}, nil); err != nil {
		return nil, err
	}
	credit := map[string]any{"amount": credits, "reason": "for a turn"}
	if err := a.ask(ctx, http.MethodPost, "accounts/"+made.name+"/credits", credit, nil); err != nil {
		return nil, err
	}
	var key admin.KeyView
	err := a.ask(ctx, http.MethodPost, "keys", map[string]any{"account": made.name, "scopes": []string{"bench:use"}}, &key)
	made.secret = key.Secret
	return made, err
}

// requireCharges returns an error unless the account has paid for exactly the given
// number of calls and has no reserved credits.
func (a *account) requireCharges(ctx context.Context, calls int, charge ledger.Amount) error {
	var view admin.AccountView
	if err := a.accounts.ask(ctx, http.MethodGet, "accounts/"+a.name, nil, &view); err != nil {
		return err
	}
	if want := credits - ledger.Amount(calls)*charge; view.Balance != want || view.Reserved != 0 {
		return fmt.Errorf("after %d calls of %s the account %s has %s, with %s reserved; want %s", calls, charge, a.name, view.Balance, view.Reserved, want)
	}
	return nil
}

// ask performs an operation and decodes its result into v unless v is nil.
func (a *accounts) ask(ctx context.Context, method, path string, body, v any) error {
	raw, err := a.client.Do(ctx, method, path, body)
	if err == nil && v != nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
