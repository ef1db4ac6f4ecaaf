package people

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// PersonQuery selects persons to list.
type PersonQuery struct {
	ledger.Page
	Account string // name or id of an account, to list only its members; "" means all persons
}

// Persons lists persons in the order of their creation. The cursor is "" on the last
// page.
func (s *Service) Persons(ctx context.Context, q PersonQuery) (list []Person, next string, err error) {
	account, err := s.accountID(ctx, q.Account)
	if err != nil {
		return nil, "", err
	}
	err = s.store.View(ctx, func(tx Tx) (err error) {
		list, next, err = tx.Persons(ctx, account, q.Page)
		return err
	})
	return list, next, err
}

// Person returns the person with the id or the e-mail address. Errors: *admin.Error.
func (s *Service) Person(ctx context.Context, ref string) (p Person, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		r, err := find(tx, ref)
		p = r.Person
		return err
	})
	return p, err
}

// find returns the person with the id or the e-mail address.
func find(tx Tx, ref string) (r Record, err error) {
	if strings.Contains(ref, "@") {
		r, err = tx.PersonByEmail(strings.ToLower(ref))
	} else {
		r, err = tx.Person(ref)
	}
	return r, explain(err, "person", ref)
}

// PersonChange describes a change of a person. A nil member means no change.
type PersonChange struct {
	Name     *string
	Email    *string
	Operator *bool
	Accounts *[]Membership // replaces all memberships; the accounts are given by name or id
}

func byAccount(a, b Membership) int { return strings.Compare(a.Account, b.Account) }

// checkMemberships refuses a list that is too long, has an account twice, or has an
// invalid role. The list must be sorted by account.
func checkMemberships(list []Membership) error {
	if len(list) > MaxMemberships {
		return refuse(admin.Invalid, "a person has at most %d accounts", MaxMemberships)
	}
	for i, m := range list {
		if !m.Role.Valid() {
			return refuse(admin.Invalid, "role %q is neither owner nor viewer", m.Role)
		}
		if i > 0 && m.Account == list[i-1].Account {
			return refuse(admin.Invalid, "account %q is named twice", m.Account)
		}
	}
	return nil
}

// resolve replaces account names in a change by their ids, and the e-mail address and
// the name by their normal forms.
func (s *Service) resolve(ctx context.Context, c *PersonChange) error {
	if c.Name != nil {
		name, err := normalName(*c.Name)
		if err != nil {
			return refuse(admin.Invalid, "%v", err)
		}
		c.Name = &name
	}
	if c.Email != nil {
		email, err := normalEmail(*c.Email)
		if err != nil {
			return refuse(admin.Invalid, "%v", err)
		}
		c.Email = &email
	}
	if c.Accounts == nil {
		return nil
	}
	list := slices.Clone(*c.Accounts)
	if len(list) > MaxMemberships {
		return checkMemberships(list)
	}
	for i := range list {
		account, err := s.o.Accounts.Account(ctx, list[i].Account)
		if err != nil {
			return err
		}
		list[i].Account = account.ID
	}
	slices.SortFunc(list, byAccount)
	c.Accounts = &list
	return checkMemberships(list)
}

// Update changes a person, given by id or e-mail address. The person's sessions go on
// with the new rights. If the person loses rights, the unused invitations that it sent
// are deleted, and the grants that it gave by these rights are revoked. A person that is
// not an operator may change only its own name and e-mail address. Errors: *admin.Error.
func (s *Service) Update(ctx context.Context, actor admin.Actor, ref string, c PersonChange) (Person, error) {
	if err := s.resolve(ctx, &c); err != nil {
		return Person{}, err
	}
	p, err := s.change(ctx, actor, "person.update", ref, func(tx Tx, r *Record) (any, error) {
		self := r.ID
		if c.Operator != nil || c.Accounts != nil {
			self = "" // only operators may change rights, even their own
		}
		if err := authorize(tx, actor, "", self); err != nil {
			return nil, err
		}
		before := r.Person
		if c.Name != nil {
			r.Name = *c.Name
		}
		if c.Email != nil {
			r.Email = *c.Email
		}
		if c.Operator != nil {
			r.Operator = *c.Operator
		}
		if c.Accounts != nil {
			r.Accounts = *c.Accounts
		}
		if lost(&before, &r.Person) {
			if _, err := tx.DeleteInvitationsBy(r.ID); err != nil {
				return nil, err
			}
		}
		return changed{r.Name, created{Email: r.Email, Operator: r.Operator, Accounts: r.Accounts}}, nil
	})
	if err != nil || c.Operator == nil && c.Accounts == nil || p.Operator { // an operator may give grants for every account
		return p, err
	}
	return p, s.endGrants(ctx, actor, p.ID, p.owned()...)
}

// changed is the detail of the audit row for a change of a person.
type changed struct {
	Name string `json:"name,omitempty"`
	created
}

// lost reports whether a person has fewer rights than before.
func lost(before, after *Person) bool {
	if before.Operator && !after.Operator {
		return true
	}
	return slices.ContainsFunc(before.Accounts, func(m Membership) bool { return m.Role == Owner && after.Role(m.Account) != Owner })
}

// owned returns the accounts that the person owns.
func (p *Person) owned() (accounts []string) {
	for _, m := range p.Accounts {
		if m.Role == Owner {
			accounts = append(accounts, m.Account)
		}
	}
	return accounts
}

// endGrants ends the OAuth grants that the person has given, except those at the expense of
// the given accounts. It goes on if the caller gives up, because the change of the person
// was made.
func (s *Service) endGrants(ctx context.Context, actor admin.Actor, person string, accounts ...string) error {
	if s.grants == nil {
		return nil
	}
	return s.grants.EndGrantsOfPersonExcept(context.WithoutCancel(ctx), actor, person, accounts)
}

// change alters a person by calling do(tx, r), and writes the audit row in the same
// transaction. The result of do is the detail of the audit row.
func (s *Service) change(ctx context.Context, actor admin.Actor, action, ref string, do func(Tx, *Record) (detail any, err error)) (p Person, err error) {
	err = s.store.Change(ctx, func(tx Tx) error {
		r, err := find(tx, ref)
		if err != nil {
			return err
		}
		detail, err := do(tx, &r)
		if err != nil {
			return err
		}
		if err := tx.UpdatePerson(&r); errors.Is(err, ledger.ErrExists) {
			return refuse(admin.Exists, "another person has the e-mail address %s", r.Email)
		} else if err != nil {
			return err
		}
		p = r.Person
		return tx.Audit(s.audit(actor, action, r.ID, detail))
	})
	return p, err
}

// Disable refuses further sign-ins of a person, given by id or e-mail address. It also
// ends the person's sessions, deletes the unused invitations that the person sent, and
// revokes the grants that the person gave. Errors: *admin.Error.
func (s *Service) Disable(ctx context.Context, actor admin.Actor, ref string) (Person, error) {
	p, err := s.change(ctx, actor, "person.disable", ref, func(tx Tx, r *Record) (any, error) {
		if err := authorize(tx, actor, "", ""); err != nil {
			return nil, err
		}
		if r.DisabledAt.IsZero() {
			r.DisabledAt = s.o.Now()
		}
		n, err := tx.DeleteSessions(r.ID, "")
		if err == nil {
			_, err = tx.DeleteInvitationsBy(r.ID)
		}
		return ended{Sessions: n}, err
	})
	if err != nil {
		return p, err
	}
	return p, s.endGrants(ctx, actor, p.ID)
}

// Enable lets a disabled person sign in again. Errors: *admin.Error.
func (s *Service) Enable(ctx context.Context, actor admin.Actor, ref string) (Person, error) {
	return s.change(ctx, actor, "person.enable", ref, func(tx Tx, r *Record) (any, error) {
		if err := authorize(tx, actor, "", ""); err != nil {
			return nil, err
		}
		r.DisabledAt = time.Time{}
		return none{}, nil
	})
}

// Remove deletes a person, given by id or e-mail address, with its credentials, its
// sessions and the unused invitations that it sent, and revokes the grants that it gave. It
// returns the deleted person.
// Errors: *admin.Error.
func (s *Service) Remove(ctx context.Context, actor admin.Actor, ref string) (p Person, err error) {
	err = s.store.Change(ctx, func(tx Tx) error {
		r, err := find(tx, ref)
		if err != nil {
			return err
		}
		if err := authorize(tx, actor, "", ""); err != nil {
			return err
		}
		if _, err := tx.DeleteInvitationsBy(r.ID); err != nil {
			return err
		}
		if _, err := tx.DeletePerson(r.ID); err != nil {
			return err
		}
		p = r.Person
		return tx.Audit(s.audit(actor, "person.remove", r.ID, created{Email: r.Email, Operator: r.Operator, Accounts: r.Accounts}))
	})
	if err != nil {
		return p, err
	}
	return p, s.endGrants(ctx, actor, p.ID)
}
