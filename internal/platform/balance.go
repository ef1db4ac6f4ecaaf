package platform

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Balance is what the holder of a key learns of the key's own account.
type Balance struct {
	Account     string        `json:"account"`
	AccountName string        `json:"account_name"`
	Environment string        `json:"environment" doc:"That of the key: live or test. All amounts are of its credits"`
	Currency    string        `json:"currency"`
	Balance     ledger.Amount `json:"balance"`
	Reserved    ledger.Amount `json:"reserved" doc:"What calls under way hold of the balance"`
	Available   ledger.Amount `json:"available" doc:"The balance less what is reserved"`
	CreditLimit ledger.Amount `json:"credit_limit" doc:"How far below zero the balance may go"`
	Caps        *admin.Caps   `json:"caps,omitempty"`
	Spent       Spent         `json:"spent"`
	Key         KeyUsage      `json:"key"`
}

// Spent is what was paid in the current day and month, UTC.
type Spent struct {
	Day   ledger.Amount `json:"today"`
	Month ledger.Amount `json:"this_month"`
}

// KeyUsage is what the key itself may spend and has spent, with those that it was
// rotated from and to.
type KeyUsage struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Caps      *admin.Caps `json:"caps,omitempty"`
	Spent     Spent       `json:"spent"`
	ExpiresAt *time.Time  `json:"expires_at"`
}

// balanceRate bounds how often the keys of one lineage may ask for their balance:
// agents ask before each call, and whoever asks more has gone wrong.
var balanceRate = keys.Rate{Requests: 60, Per: time.Minute, Burst: 60}

// balanceBucket is no name of a server.
const balanceBucket = "/balance"

func (p *Platform) registerBalance() {
	register(p, operation{
		method: "GET", path: "/balance", id: "show-balance", tag: "balance", kinds: payable,
		summary: "Show the balance and the usage of the key's own account",
		description: "It costs nothing and names no account: whose it is follows from the key. A personal key needs the scope " + keys.ScopeConnect + ", as it does to be charged. " +
			"At most 60 times a minute.",
	}, p.balance)
}

func (p *Platform) balance(ctx context.Context, _ *none) (*content[Balance], error) {
	key := visitOf(ctx).key
	if !key.HasScope(keys.ScopeConnect) {
		return nil, problem(wire.KindWrong, "The key may not spend", "This is for agent keys, and for personal ones with the scope "+keys.ScopeConnect)
	}
	if p.Limiter.Take(key.Lineage, [2]gate.Bucket{{Server: balanceBucket, Rate: balanceRate}}).Wait > 0 {
		return nil, problem(wire.TooMany, "The balance was asked for too often", "At most 60 times a minute")
	}
	account, err := p.Admin.Account(ctx, key.Account)
	if err != nil {
		return nil, err
	}
	test := key.Environment == keys.Test
	usage, err := p.Store.Usage(ctx, key.Account, key.Lineage, test)
	if err != nil {
		return nil, err
	}
	balance, view := account.Balance(test), p.Admin.ViewKey(ctx, *key, "")
	b := Balance{
		Account: account.ID, AccountName: account.Name, Environment: string(key.Environment), Currency: p.Currency,
		Balance: balance.Posted, Reserved: balance.Reserved, Available: balance.Available(), Caps: admin.ViewAccount(account).Caps, Spent: Spent(usage.Account),
		Key: KeyUsage{ID: key.ID, Name: key.Name, Caps: view.Caps, Spent: Spent(usage.Key), ExpiresAt: view.ExpiresAt},
	}
	if !test { // test credits have no credit
		b.CreditLimit = account.CreditLimit
	}
	return &content[Balance]{b}, nil
}
