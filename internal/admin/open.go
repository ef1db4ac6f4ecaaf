package admin

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// OpenAccount is Open with a credit of live credits.
func (s *Service) OpenAccount(ctx context.Context, actor Actor, id, name string, credit ledger.Amount) (ledger.Account, error) {
	return s.Open(ctx, actor, Opening{ID: id, Name: name, Credit: credit})
}

// Opening describes an account that is opened.
type Opening struct {
	ID     string
	Name   string
	Credit ledger.Amount // starting credit; zero for none
	Test   bool          // the starting credit is in test credits
}

// Open creates the account of a new person or subject, with the given id, and tops it up by
// the starting credit if that is more than zero. If the name is taken or not allowed,
// it chooses a name that contains the id. A further call with the same id changes
// nothing, even if the amount is another, so that it can be repeated after a crash. Live
// and test credits are given once each.
func (s *Service) Open(ctx context.Context, actor Actor, o Opening) (ledger.Account, error) {
	id, name, credit := o.ID, o.Name, o.Credit
	if _, err := s.store.Account(ctx, id); errors.Is(err, ledger.ErrNotFound) {
		if err := s.openNamed(ctx, actor, id, name); err != nil {
			return ledger.Account{}, err
		}
	} else if err != nil {
		return ledger.Account{}, err
	}
	if credit > 0 {
		c := Credit{ID: startingCredit(id, o.Test), Account: id, Amount: credit, Reason: "starting credit", Test: o.Test}
		t := ledger.Transaction{ID: c.ID, Kind: ledger.KindCredit, Creditor: id, Amount: credit, Test: o.Test, At: s.now(), Reason: c.Reason}
		_, _, err := s.store.PostTransaction(ctx, t, s.audit(actor, "account.credit", id, c))
		if err != nil && !errors.Is(err, ledger.ErrConflict) { // on a conflict, the credit was already posted, with another amount
			return ledger.Account{}, explain(err, "account", id)
		}
	}
	return s.Account(ctx, id)
}

// openNamed creates an account with the id, and with the name if no other account has
// it.
func (s *Service) openNamed(ctx context.Context, actor Actor, id, name string) error {
	other := "account-" + id[len("acct_"):]
	if ledger.ValidName(name) != nil {
		name = other
	}
	create := func(name string) error {
		account := ledger.Account{ID: id, Name: name, CreatedAt: s.now()}
		return s.store.CreateAccount(ctx, account, s.audit(actor, "account.create", id, NewAccount{Name: name}))
	}
	err := create(name)
	if errors.Is(err, ledger.ErrExists) {
		// A concurrent call may have created this account under this name.
		if _, known := s.store.Account(ctx, id); known == nil {
			return nil
		}
		err = create(other)
	}
	if errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrExists) { // a concurrent call created the account
		_, err = s.store.Account(ctx, id)
	}
	return explain(err, "account", name)
}

// startingCredit returns the id of the transaction that books the starting credit of an
// account. The id depends only on the account, and callers cannot choose it; see
// validID.
func startingCredit(account string, test bool) string {
	purpose := "starting credit"
	if test {
		purpose = "starting test credit"
	}
	sum := sha256.Sum256([]byte(purpose + "\x00" + account))
	u := uuid.UUID(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8 and the variant of RFC 9562
	return "txn_" + u.String()
}

// AccountNames returns the names of accounts by id. It leaves out unknown ids.
func (s *Service) AccountNames(ctx context.Context, ids []string) (map[string]string, error) {
	return s.store.AccountNames(ctx, ids)
}
