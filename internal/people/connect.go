package people

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// enter signs in the person that is connected with the provider's user u. At the first
// sign-in of u, enter creates the person, with the memberships that the config names,
// or with an account of its own. It never connects u to an existing person with the
// same e-mail address, because nobody has verified the addresses of persons.
func (s *Service) enter(ctx context.Context, c Client, settings *config, u *providerUser) (in SignedIn, token string, err error) {
	if !settings.provider.admits(u) {
		return in, "", ErrProvider
	}
	known, err := s.known(ctx, u)
	if err != nil {
		return in, "", err
	}
	r := Record{Person: Person{ID: id.New("psn_"), Email: u.Email, Name: u.Name, CreatedAt: s.o.Now()}}
	if !known {
		if r.Accounts, err = s.accountsFor(ctx, c, settings, u); err != nil {
			return in, "", err
		}
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		found, err := tx.PersonByProvider(u.Issuer, u.Subject)
		switch {
		case errors.Is(err, ledger.ErrNotFound) && known:
			return ErrProvider // the person has disconnected the provider in the meantime
		case errors.Is(err, ledger.ErrNotFound):
			err = s.createFor(tx, c, &r, u)
		case err == nil && !found.DisabledAt.IsZero():
			return ErrProvider
		case err == nil:
			r = found
		}
		if err != nil {
			return err
		}
		in, token, err = s.open(tx, c, r.ID, "provider")
		return err
	})
	if err != nil {
		return SignedIn{}, "", err
	}
	return in, token, nil
}

// known reports whether a person is connected with the provider's user. If no such
// person exists, known checks that a person can be created for the user: the user has a
// verified e-mail address, and no person has that address.
func (s *Service) known(ctx context.Context, u *providerUser) (known bool, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		_, err := tx.PersonByProvider(u.Issuer, u.Subject)
		if known = err == nil; known || !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if u.Email == "" {
			return ErrProvider
		}
		return free(tx, u.Email)
	})
	return known, err
}

// createFor stores the person r and connects it with the provider's user.
func (s *Service) createFor(tx Tx, c Client, r *Record, u *providerUser) error {
	if err := insertPerson(tx, r); err != nil {
		return err
	}
	if err := tx.ConnectProvider(u.Issuer, u.Subject, r.ID, s.o.Now()); err != nil {
		return err
	}
	return tx.Audit(s.audit(self(r.ID, c), "person.create", r.ID, created{Email: r.Email, Accounts: r.Accounts, By: "provider"}))
}

// accountsFor returns the memberships of a new user. These are the memberships that the
// config names, or the membership of a new account, which accountsFor opens. The
// account's id is derived from the user. So if the process stops before the person is
// stored, the next sign-in gets the same account.
func (s *Service) accountsFor(ctx context.Context, c Client, settings *config, u *providerUser) ([]Membership, error) {
	list, err := s.mapped(ctx, settings.provider, u)
	if err != nil || len(list) > 0 {
		return list, err
	}
	r := settings.Registration
	if r == nil || !r.admits(u.Email) {
		return nil, ErrRegistration
	}
	account := "acct_" + derived(u.Issuer, u.Subject)
	if _, err := s.o.Accounts.OpenAccount(ctx, self("registration", c), account, u.Email, r.Credit); err != nil {
		return nil, err
	}
	return []Membership{{account, Owner}}, nil
}

// derived returns a UUID that depends only on the issuer and subject of a provider's
// user.
func derived(issuer, subject string) string {
	sum := sha256.Sum256([]byte("farebox registration\x00" + issuer + "\x00" + subject))
	u := uuid.UUID(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8 and the variant of RFC 9562
	return u.String()
}

// mapped returns the memberships that the config names for the provider's user.
func (s *Service) mapped(ctx context.Context, p *provider, u *providerUser) (list []Membership, err error) {
	for _, a := range p.Accounts {
		if a.Domain != "" && a.Domain != domainOf(u.Email) || a.Group != "" && !slices.Contains(u.Groups, a.Group) {
			continue
		}
		account, err := s.o.Accounts.Account(ctx, a.Account)
		if err != nil {
			return nil, err
		}
		var person Person
		person.Accounts = list
		grant(&person, &Invitation{Account: account.ID, Role: a.Role})
		list = person.Accounts
	}
	return list, checkMemberships(list)
}

// providerDetail is the detail of the audit row for connecting a provider's user.
type providerDetail struct {
	Issuer string `json:"issuer"`
}

// connect connects the provider's user u with the person that began the visit v, if the
// session in which the visit began still exists.
func (s *Service) connect(ctx context.Context, c Client, settings *config, v *visit, u *providerUser) (in SignedIn, err error) {
	if !settings.provider.admits(u) {
		return in, ErrProvider
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		by := SignedIn{Person: Person{ID: v.Person}, Session: Session{ID: v.Session}}
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		if r.HasProvider {
			return ErrProvider
		}
		if err := tx.ConnectProvider(u.Issuer, u.Subject, r.ID, s.o.Now()); errors.Is(err, ledger.ErrExists) {
			return ErrProvider
		} else if err != nil {
			return err
		}
		session, err := tx.SessionByID(v.Session)
		session.ExpiresAt = settings.end(&session)
		r.HasProvider = true
		in = SignedIn{r.Person, session}
		if err != nil {
			return err
		}
		return tx.Audit(s.audit(self(r.ID, c), "provider.connect", r.ID, providerDetail{u.Issuer}))
	})
	return in, err
}

// DisconnectProvider removes the person's connection to the provider. Errors:
// ErrLastCredential, ErrSession.
func (s *Service) DisconnectProvider(ctx context.Context, by SignedIn) error {
	return s.store.Change(ctx, func(tx Tx) error {
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		if !r.HasPassword && len(r.Passkeys) == 0 {
			return ErrLastCredential
		}
		n, err := tx.DisconnectProvider(r.ID)
		if err != nil || n == 0 {
			return err
		}
		return tx.Audit(s.audit(self(r.ID, by.Session.Client), "provider.disconnect", r.ID, none{}))
	})
}
