package people

import (
	"context"
	"errors"
	"slices"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// credential is the means to sign in after accepting an invitation: a password
// or a passkey.
type credential struct {
	password string // a hash of the password; "" if the credential is a passkey
	passkey  *Key
}

// how returns the name of the credential in the audit log.
func (c *credential) how() string {
	if c.passkey != nil {
		return "passkey"
	}
	return "password"
}

// AcceptWithPassword accepts an invitation. It creates the person, or recovers the
// person that the invitation names. It then sets the password and signs the person in.
// A recovery removes all former passkeys and sessions of the person. Errors:
// ErrInvitation, ErrEmailTaken, *InputError, *DelayError.
func (s *Service) AcceptWithPassword(ctx context.Context, c Client, secret string, p Profile, password string) (SignedIn, string, error) {
	i, p, err := s.prepare(ctx, secret, p)
	if err != nil {
		return SignedIn{}, "", err
	}
	if err := checkPassword(password, p.Email, p.Name); err != nil {
		return SignedIn{}, "", err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return SignedIn{}, "", err
	}
	return s.accept(ctx, c, digestOf(secret), i, id.New("psn_"), p, credential{password: hash})
}

// prepare returns the invitation that has the secret, and the profile of the person
// that accepts it. If the invitation recovers a person, this is that person's profile;
// otherwise it is p with checked values.
func (s *Service) prepare(ctx context.Context, secret string, p Profile) (i Invitation, _ Profile, err error) {
	d, ok := parseSecret(InvitationPrefix, secret)
	if !ok {
		return i, p, ErrInvitation
	}
	err = s.store.View(ctx, func(tx Tx) error {
		var r Record
		if i, r, err = s.usable(tx, d); err != nil {
			return err
		}
		if i.Recovers() {
			p = Profile{Email: r.Email, Name: r.Name}
			return nil
		}
		if i.Email != "" {
			p.Email = i.Email
		}
		if p.Email, err = normalEmail(p.Email); err != nil {
			return err
		}
		if p.Name, err = normalName(p.Name); err != nil {
			return err
		}
		return free(tx, p.Email)
	})
	return i, p, err
}

// free returns ErrEmailTaken if a person has the e-mail address.
func free(tx Tx, email string) error {
	_, err := tx.PersonByEmail(email)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	return cmpOr(err, ErrEmailTaken)
}

// accept creates or recovers the person, gives it the credential and signs it in. If
// the invitation registers, accept opens the new account first, in a transaction of its
// own. If the process stops between the two transactions, accepting the same link again
// opens no second account, because the invitation names the account's id.
func (s *Service) accept(ctx context.Context, c Client, d Digest, i Invitation, person string, p Profile, k credential) (in SignedIn, token string, err error) {
	c = shown(c)
	if i.Registers {
		r := s.current.Load().Registration
		if r == nil {
			return in, "", ErrRegistration
		}
		if _, err := s.o.Accounts.OpenAccount(ctx, self("registration", c), i.Account, p.Email, r.Credit); err != nil {
			return in, "", err
		}
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		i, r, err := s.usable(tx, d)
		if err != nil {
			return err
		}
		if i.Recovers() {
			err = s.recover(tx, c, &r, &i, k)
		} else {
			r = Record{Person: Person{ID: person, Email: p.Email, Name: p.Name, CreatedAt: s.o.Now()}}
			err = s.create(tx, c, &r, &i, k)
		}
		if err != nil {
			return err
		}
		i.UsedAt, i.UsedBy = s.o.Now(), r.ID
		if err := tx.UseInvitation(&i); err != nil {
			return err
		}
		in, token, err = s.open(tx, c, r.ID, k.how())
		return err
	})
	if err != nil {
		return SignedIn{}, "", err
	}
	return in, token, nil
}

// created is the detail of the audit row of a new or changed person.
type created struct {
	Email      string       `json:"email,omitempty"`
	Operator   bool         `json:"operator,omitempty"`
	Accounts   []Membership `json:"accounts,omitempty"`
	Invitation string       `json:"invitation,omitempty"`
	By         string       `json:"by,omitempty"` // the credential: "password", "passkey" or "provider"
}

// create stores a new person with the rights of the invitation and the credential.
func (s *Service) create(tx Tx, c Client, r *Record, i *Invitation, k credential) error {
	grant(&r.Person, i)
	r.Password = k.password
	if err := insertPerson(tx, r); err != nil {
		return err
	}
	if err := insertKey(tx, r.ID, k.passkey); err != nil {
		return err
	}
	return tx.Audit(s.audit(self(r.ID, c), "person.create", r.ID,
		created{Email: r.Email, Operator: r.Operator, Accounts: r.Accounts, Invitation: i.ID, By: k.how()}))
}

func insertPerson(tx Tx, r *Record) error {
	err := tx.InsertPerson(r)
	if errors.Is(err, ledger.ErrExists) {
		return ErrEmailTaken
	}
	return err
}

// insertKey stores k as a passkey of the person. It does nothing if k is nil.
func insertKey(tx Tx, person string, k *Key) error {
	if k == nil {
		return nil
	}
	k.Person = person
	err := tx.InsertKey(k)
	if errors.Is(err, ledger.ErrExists) {
		return ErrPasskey // the authenticator used the same credential id before
	}
	return err
}

// grant adds the rights of an invitation to a person. It never takes rights away.
func grant(p *Person, i *Invitation) {
	p.Operator = p.Operator || i.Operator
	if i.Account == "" {
		return
	}
	for n := range p.Accounts {
		if m := &p.Accounts[n]; m.Account == i.Account {
			if i.Role == Owner {
				m.Role = Owner
			}
			return
		}
	}
	p.Accounts = append(p.Accounts, Membership{i.Account, i.Role})
	slices.SortFunc(p.Accounts, byAccount)
}

// recover replaces the person's password and passkeys with the new credential and ends
// the person's sessions. The connection to the OpenID provider stays. recover also
// deletes the other unused recovery invitations of the person, because a thief may hold
// one of them.
func (s *Service) recover(tx Tx, c Client, r *Record, i *Invitation, k credential) error {
	if _, err := tx.DeleteInvitationsFor(r.ID, i.ID); err != nil {
		return err
	}
	if _, err := tx.DeleteKeys(r.ID); err != nil {
		return err
	}
	if _, err := tx.DeleteSessions(r.ID, ""); err != nil {
		return err
	}
	r.Password = k.password
	if err := tx.UpdatePerson(r); err != nil {
		return err
	}
	if err := insertKey(tx, r.ID, k.passkey); err != nil {
		return err
	}
	return tx.Audit(s.audit(self(r.ID, c), "person.recover", r.ID, created{By: k.how()}))
}

// Accept accepts an invitation for the person that is signed in: it adds the membership
// or the operator's rights. It refuses invitations that recover or register, and
// invitations for another e-mail address. Errors: ErrInvitation, *admin.Error.
func (s *Service) Accept(ctx context.Context, by SignedIn, secret string) (p Person, err error) {
	d, ok := parseSecret(InvitationPrefix, secret)
	if !ok {
		return p, ErrInvitation
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		i, _, err := s.usable(tx, d)
		if err != nil {
			return err
		}
		if i.Recovers() || i.Registers || i.Email != "" && i.Email != r.Email {
			return ErrInvitation
		}
		grant(&r.Person, &i)
		if err := checkMemberships(r.Accounts); err != nil {
			return err
		}
		if err := tx.UpdatePerson(&r); err != nil {
			return err
		}
		i.UsedAt, i.UsedBy = s.o.Now(), r.ID
		if err := tx.UseInvitation(&i); err != nil {
			return err
		}
		p = r.Person
		return tx.Audit(s.audit(self(r.ID, by.Session.Client), "person.join", r.ID,
			created{Operator: r.Operator, Accounts: r.Accounts, Invitation: i.ID}))
	})
	return p, err
}

// present returns the person of a session. It returns ErrSession if the session was
// deleted or the person is disabled.
func present(tx Tx, by *SignedIn) (Record, error) {
	session, err := tx.SessionByID(by.Session.ID)
	if err == nil && session.Person == by.Person.ID {
		var r Record
		if r, err = tx.Person(session.Person); err == nil && r.DisabledAt.IsZero() {
			return r, nil
		}
	}
	if err == nil || errors.Is(err, ledger.ErrNotFound) {
		err = ErrSession
	}
	return Record{}, err
}
