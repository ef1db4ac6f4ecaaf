package people

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// keepInvitations is how long an accepted invitation stays in the store after its
// expiry.
const keepInvitations = 30 * 24 * time.Hour

// invited is the detail of an audit row about an invitation.
type invited struct {
	Account   string `json:"account,omitempty"`
	Role      Role   `json:"role,omitempty"`
	Operator  bool   `json:"operator,omitempty"`
	Email     string `json:"email,omitempty"`
	Person    string `json:"person,omitempty"`
	Registers bool   `json:"registers,omitempty"`
	Seconds   int64  `json:"seconds,omitempty"` // life of the invitation
}

func detailOf(i *Invitation) invited {
	return invited{i.Account, i.Role, i.Operator, i.Email, i.Person, i.Registers, int64(i.ExpiresAt.Sub(i.CreatedAt) / time.Second)}
}

// Invite creates an invitation and returns it with its secret, which is kept nowhere.
// If the actor is a person, actor.Name must be the person's id, and the person must be
// an operator or, to invite a member of an account, an owner of that account. Errors:
// *admin.Error for invalid parameters, unknown accounts or persons, and an actor
// without the right.
func (s *Service) Invite(ctx context.Context, actor admin.Actor, n NewInvitation) (Invitation, string, error) {
	now := s.o.Now()
	i := Invitation{
		ID: id.New("inv_"), Role: n.Role, Operator: n.Operator, Person: n.Person,
		By: actor.Name, CreatedAt: now, ExpiresAt: now.Add(s.current.Load().InvitationLife),
	}
	if n.Life != 0 {
		i.ExpiresAt = now.Add(n.Life)
	}
	if err := s.checkInvitation(ctx, &n, &i); err != nil {
		return Invitation{}, "", err
	}
	secret, digest := newSecret(InvitationPrefix)
	err := s.store.Change(ctx, func(tx Tx) error {
		if err := authorize(tx, actor, i.Account, ""); err != nil {
			return err
		}
		if i.Recovers() {
			if _, err := tx.Person(i.Person); err != nil {
				return explain(err, "person", i.Person)
			}
		}
		return s.insertInvitation(tx, actor, &i, digest)
	})
	if err != nil {
		return Invitation{}, "", err
	}
	return i, secret, nil
}

// checkInvitation checks n. It copies the values to i in their normal forms, and with
// defaults in place of missing values.
func (s *Service) checkInvitation(ctx context.Context, n *NewInvitation, i *Invitation) error {
	purposes := 0
	for _, given := range []bool{n.Account != "", n.Operator, n.Person != ""} {
		if given {
			purposes++
		}
	}
	switch {
	case purposes != 1:
		return refuse(admin.Invalid, "an invitation is for an account, for an operator or for an existing person: name one of them")
	case n.Life < 0 || n.Life > 0 && n.Life < time.Minute || n.Life > MaxInvitationLife:
		return refuse(admin.Invalid, "the life of an invitation is 1m to %d days", MaxInvitationLife/(24*time.Hour))
	case n.Account == "" && n.Role != "":
		return refuse(admin.Invalid, "a role is for members of an account")
	case n.Person != "" && n.Email != "":
		return refuse(admin.Invalid, "an existing person keeps the e-mail address: leave the address out")
	}
	if n.Account != "" {
		if i.Role == "" {
			i.Role = Viewer
		}
		if !i.Role.Valid() {
			return &admin.Error{Code: admin.Invalid, Message: fmt.Sprintf("role %q is neither owner nor viewer", i.Role), Field: "role"}
		}
		account, err := s.o.Accounts.Account(ctx, n.Account)
		if err != nil {
			return err
		}
		i.Account = account.ID
	}
	if n.Email != "" {
		email, err := normalEmail(n.Email)
		if err != nil {
			return &admin.Error{Code: admin.Invalid, Message: err.Error(), Field: "email"}
		}
		i.Email = email
	}
	return nil
}

// insertInvitation stores an invitation with its audit row. It also deletes expired
// invitations.
func (s *Service) insertInvitation(tx Tx, actor admin.Actor, i *Invitation, d Digest) error {
	if _, err := tx.DeleteInvitationsBefore(s.o.Now(), s.o.Now().Add(-keepInvitations)); err != nil {
		return err
	}
	if err := tx.InsertInvitation(i, d); err != nil {
		return err
	}
	return tx.Audit(s.audit(actor, "invitation.create", i.ID, detailOf(i)))
}

// Invitation returns the invitation with the secret, for the page that the link opens.
// Errors: ErrInvitation.
func (s *Service) Invitation(ctx context.Context, secret string) (i Invitation, err error) {
	d, ok := parseSecret(InvitationPrefix, secret)
	if !ok {
		return Invitation{}, ErrInvitation
	}
	err = s.store.View(ctx, func(tx Tx) (err error) {
		i, _, err = s.usable(tx, d)
		return err
	})
	return i, err
}

// usable returns the invitation with the digest. If the invitation recovers a person, r
// is that person. If the invitation cannot be accepted, err is ErrInvitation.
func (s *Service) usable(tx Tx, d Digest) (i Invitation, r Record, err error) {
	i, err = tx.Invitation(d)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return Invitation{}, r, ErrInvitation
	case err != nil:
		return Invitation{}, r, err
	case !i.UsedAt.IsZero() || !s.o.Now().Before(i.ExpiresAt):
		return Invitation{}, r, ErrInvitation
	}
	if i.Recovers() {
		r, err = tx.Person(i.Person)
		if errors.Is(err, ledger.ErrNotFound) || err == nil && !r.DisabledAt.IsZero() {
			err = ErrInvitation
		}
	}
	return i, r, err
}

// Register begins a self-registration with the code that the operator gave out. It
// returns an invitation for the e-mail address, and its secret. The person then accepts
// it like any other invitation. Errors: ErrRegistration, ErrEmailTaken, *InputError,
// *DelayError.
func (s *Service) Register(ctx context.Context, c Client, code, email string) (Invitation, string, error) {
	c = shown(c)
	attempt, err := s.attempts.begin(c, "")
	if err != nil {
		return Invitation{}, "", err
	}
	now := s.current.Load()
	r := now.Registration
	if r == nil || r.Code == "" || !sameSecret(r.Code, code) {
		return Invitation{}, "", ErrRegistration
	}
	attempt.succeeded()
	if err := s.pace.begin(c); err != nil {
		return Invitation{}, "", err
	}
	if email, err = normalEmail(email); err != nil {
		return Invitation{}, "", err
	}
	if !r.admits(email) {
		return Invitation{}, "", ErrRegistration
	}
	at := s.o.Now()
	i := Invitation{
		ID: id.New("inv_"), Account: id.New("acct_"), Role: Owner, Email: email, Registers: true,
		By: "registration", CreatedAt: at, ExpiresAt: at.Add(now.InvitationLife),
	}
	secret, digest := newSecret(InvitationPrefix)
	err = s.store.Change(ctx, func(tx Tx) error {
		if _, err := tx.PersonByEmail(email); !errors.Is(err, ledger.ErrNotFound) {
			return cmpOr(err, ErrEmailTaken)
		}
		return s.insertInvitation(tx, self("registration", c), &i, digest)
	})
	if err != nil {
		return Invitation{}, "", err
	}
	return i, secret, nil
}

// cmpOr returns the first of two errors that is not nil, or nil if both are nil.
func cmpOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// sameSecret reports whether two secrets are equal. Its time does not depend on the
// position of the first difference.
func sameSecret(a, b string) bool {
	x, y := digestOf(a), digestOf(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// admits reports whether the domain of an e-mail address may register.
func (r *Registration) admits(email string) bool {
	return len(r.Domains) == 0 || slices.Contains(r.Domains, domainOf(email))
}

// InvitationQuery selects invitations to list.
type InvitationQuery struct {
	ledger.Page
	Account string // name or id of the account that the invitations are for; "" means all invitations
}

// Invitations lists the invitations that can still be accepted, the newest first. The
// cursor is "" on the last page.
func (s *Service) Invitations(ctx context.Context, q InvitationQuery) (list []Invitation, next string, err error) {
	account, err := s.accountID(ctx, q.Account)
	if err != nil {
		return nil, "", err
	}
	err = s.store.View(ctx, func(tx Tx) (err error) {
		list, next, err = tx.Invitations(ctx, account, s.o.Now(), q.Page)
		return err
	})
	return list, next, err
}

// accountID returns the id of the account with the given name or id. For "" it returns
// "".
func (s *Service) accountID(ctx context.Context, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	account, err := s.o.Accounts.Account(ctx, ref)
	return account.ID, err
}

// Withdraw makes an invitation unusable. If account is not "", the invitation must be
// for the account with that id. Errors: *admin.Error.
func (s *Service) Withdraw(ctx context.Context, actor admin.Actor, account, invitation string) (i Invitation, err error) {
	err = s.store.Change(ctx, func(tx Tx) (err error) {
		i, err = tx.InvitationByID(invitation)
		if err == nil && (account != "" && i.Account != account) {
			err = ledger.ErrNotFound
		}
		if err != nil {
			return explain(err, "invitation", invitation)
		}
		if err := authorize(tx, actor, i.Account, ""); err != nil {
			return err
		}
		if !i.UsedAt.IsZero() {
			return refuse(admin.Conflict, "invitation %q was accepted: disable the person %s instead", i.ID, i.UsedBy)
		}
		if _, err := tx.DeleteInvitation(i.ID); err != nil {
			return err
		}
		return tx.Audit(s.audit(actor, "invitation.withdraw", i.ID, detailOf(&i)))
	})
	return i, err
}
