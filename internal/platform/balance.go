package platform

import (
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Balance is the state of the account of the caller's key, in JSON.
type Balance struct {
	Account     string        `json:"account"`
	AccountName string        `json:"account_name"`
	Environment string        `json:"environment" doc:"Of the key: live or test. All amounts are of its credits"`
	Currency    string        `json:"currency"`
	Balance     ledger.Amount `json:"balance"`
	Reserved    ledger.Amount `json:"reserved" doc:"What calls under way hold of the balance"`
	Available   ledger.Amount `json:"available" doc:"The balance less what is reserved"`
	CreditLimit ledger.Amount `json:"credit_limit" doc:"How far below zero the balance may go"`
	Caps        *admin.Caps   `json:"caps,omitempty"`
	Spent       Spent         `json:"spent"`
	Key         KeyUsage      `json:"key"`
}

// Spent contains the sums of the charges of the current day and month in UTC.
type Spent struct {
	Day   ledger.Amount `json:"today"`
	Month ledger.Amount `json:"this_month"`
}

// KeyUsage shows the caps and the spending of the key's lineage: the key itself, and
// all keys that it was rotated from or to.
type KeyUsage struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Caps      *admin.Caps `json:"caps,omitempty"`
	Spent     Spent       `json:"spent"`
	ExpiresAt *time.Time  `json:"expires_at"`
}

// balanceRate bounds how often the keys of one lineage may ask for their balance. An
// agent may ask before each call. A client that asks more often than this rate is
// probably out of control.
var balanceRate = keys.Rate{Requests: 60, Per: time.Minute, Burst: 60}

// balanceBucket names the rate limiter's bucket that counts requests for the balance.
// The other buckets are named after servers. balanceBucket is not a valid server name,
// so no server can have the same bucket.
const balanceBucket = "/balance"

func balanceOps() []ops.Op[*Platform] {
	return []ops.Op[*Platform]{ops.Define(ops.Operation{
		ID: "balance.show", Method: http.MethodGet, Path: "/balance", Needs: identity.Spend, Tag: "balance",
		Summary: "Show the balance and the usage of the key's own account",
		Description: "It costs nothing and names no account: the key decides. A personal key needs the scope " + keys.ScopeConnect + ", as it does to be charged. " +
			"At most 60 times a minute.",
	}, balance)}
}

func balance(ctx context.Context, p *Platform, by *identity.Principal, _ *ops.None) (none Balance, err error) {
	key := by.Key
	if p.o.Limiter.Take(key.Lineage, [2]gate.Bucket{{Server: balanceBucket, Rate: balanceRate}}).Wait > 0 {
		return none, ops.Problem(wire.TooMany, "Too many requests for the balance", "At most 60 times a minute")
	}
	account, err := p.o.Admin.Account(ctx, key.Account)
	if err != nil {
		return none, err
	}
	test := key.Environment == keys.Test
	usage, err := p.o.Store.Usage(ctx, key.Account, key.Lineage, test)
	if err != nil {
		return none, err
	}
	held, view := account.Balance(test), p.o.Admin.ViewKey(ctx, *key, "")
	b := Balance{
		Account: account.ID, AccountName: account.Name, Environment: string(key.Environment), Currency: p.o.Currency,
		Balance: held.Posted, Reserved: held.Reserved, Available: held.Available(), Caps: admin.ViewAccount(account).Caps, Spent: Spent(usage.Account),
		Key: KeyUsage{ID: key.ID, Name: key.Name, Caps: view.Caps, Spent: Spent(usage.Key), ExpiresAt: view.ExpiresAt},
	}
	if !test { // the credit limit applies only to live credits
		b.CreditLimit = account.CreditLimit
	}
	return b, nil
}
