package people

import (
	"context"
	"errors"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// personPrefix is the prefix of the ids of persons.
const personPrefix = "psn_"

// errForbidden refuses an operation to a person without the right to perform it.
var errForbidden = &admin.Error{Code: admin.Forbidden, Message: "you may not do this, or not any more"}

// authorize checks that the author of an operation may perform it. It runs in the
// transaction of the operation: the console has checked the right before, but the
// person may have lost it since. An author that is not a person, such as a command, may
// do everything. A person must be an operator, be an owner of the account, or have the
// id self. An empty account or self grants no right.
func authorize(tx Tx, actor admin.Actor, account, self string) error {
	if !strings.HasPrefix(actor.Name, personPrefix) {
		return nil
	}
	r, err := tx.Person(actor.Name)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return errForbidden
	case err != nil:
		return err
	case !r.DisabledAt.IsZero():
		return errForbidden
	case r.Operator || account != "" && r.Role(account) == Owner || self != "" && r.ID == self:
		return nil
	}
	return errForbidden
}

// ManagesKeys reports whether the person may create keys of the account now: it is not
// disabled, and is an operator or an owner of the account.
func (s *Service) ManagesKeys(ctx context.Context, person, account string) (bool, error) {
	var r Record
	err := s.store.View(ctx, func(tx Tx) (err error) {
		r, err = tx.Person(person)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	return err == nil && r.DisabledAt.IsZero() && (r.Operator || r.Role(account) == Owner), err
}
