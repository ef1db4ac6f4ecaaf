package admin

import (
	"context"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// ViewAccount returns the account as JSON shows it.
func ViewAccount(a ledger.Account) AccountView { return viewAccount(a) }

// ViewKey returns the key as JSON shows it, with the secret if it is not "".
func (s *Service) ViewKey(ctx context.Context, k keys.Key, secret string) KeyView {
	names, _ := s.names(ctx, k.Account) // a secret that is shown once is shown in any case
	return viewKey(k, names, secret, s.now())
}

// ViewTransaction returns the transaction as JSON shows it.
func ViewTransaction(t ledger.Transaction) TransactionView { return viewTransaction(t) }

// ViewAudit returns the audit row as JSON shows it.
func ViewAudit(a ledger.Audit) AuditView { return viewAudit(a) }

// ViewList returns a page of a listing, each row as view shows it.
func ViewList[M, V any](rows []M, next string, view func(M) V) List[V] {
	return viewList(rows, next, view)
}
