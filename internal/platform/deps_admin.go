package platform

import (
	"context"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Admin carries the operations on accounts, keys and money out, each with its
// audit row: see admin.Service.
type Admin interface {
	CreateAccount(ctx context.Context, actor admin.Actor, n admin.NewAccount) (ledger.Account, error)
	UpdateAccount(ctx context.Context, actor admin.Actor, ref string, c admin.AccountChange) (ledger.Account, error)
	Account(ctx context.Context, ref string) (ledger.Account, error)
	Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error)
	Credit(ctx context.Context, actor admin.Actor, c admin.Credit) (ledger.Account, error)
	Adjust(ctx context.Context, actor admin.Actor, c admin.Credit) (ledger.Account, error)

	CreateKey(ctx context.Context, actor admin.Actor, n admin.NewKey) (keys.Key, string, error)
	UpdateKey(ctx context.Context, actor admin.Actor, id string, c admin.KeyChange) (keys.Key, error)
	Key(ctx context.Context, id string) (keys.Key, error)
	Keys(ctx context.Context, q admin.KeyQuery) (admin.List[admin.KeyView], error)
	DeleteKey(ctx context.Context, actor admin.Actor, id string) (keys.Key, error)
	DisableKey(ctx context.Context, actor admin.Actor, id string) (keys.Key, error)
	EnableKey(ctx context.Context, actor admin.Actor, id string) (keys.Key, error)
	RotateKey(ctx context.Context, actor admin.Actor, id string, r admin.Rotation) (keys.Key, string, error)

	Charge(ctx context.Context, id string) (ledger.Charge, error)
	Charges(ctx context.Context, q admin.ChargeQuery) (admin.List[admin.ChargeView], error)
	SumCharges(ctx context.Context, q admin.ChargeQuery) (admin.ChargeSums, error)
	Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error)
	JournalLength(ctx context.Context) (int64, error)
	ArchivedCounts(ctx context.Context) (transactions, charges int64, err error)
	AuditLog(ctx context.Context, p ledger.Page) ([]ledger.Audit, string, error)
	Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error)

	ViewKey(ctx context.Context, k keys.Key, secret string) admin.KeyView
	ViewCharge(ctx context.Context, c ledger.Charge) admin.ChargeView
}
