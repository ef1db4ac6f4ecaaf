package people

import (
	"context"
	"errors"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// SignIn signs in by e-mail address and password, and returns the new session with its
// token. A wrong address and a wrong password have the same error and take the same
// time. Errors: ErrCredentials, *DelayError.
func (s *Service) SignIn(ctx context.Context, c Client, email, password string) (in SignedIn, token string, err error) {
	c = shown(c)
	email, invalid := normalEmail(email)
	if invalid != nil {
		email = "" // no person has this address
	}
	attempt, err := s.begin(c, email)
	if err != nil {
		return in, "", err
	}
	r, fresh, err := s.proveByEmail(ctx, email, password)
	if err == nil {
		in, token, err = s.openProven(ctx, c, &r, fresh)
	}
	switch {
	case err == nil:
		attempt.succeeded()
	case !errors.Is(err, ErrCredentials):
		attempt.cancel() // the credentials were not checked
	}
	if err != nil {
		return SignedIn{}, "", err
	}
	return in, token, nil
}

// begin admits an attempt to sign in. It logs an attempt that it refuses.
func (s *Service) begin(c Client, email string) (*attempt, error) {
	a, err := s.attempts.begin(c, email)
	if err != nil {
		s.o.Logger.Warn("a sign-in was refused after failed attempts", "address", c.Address.String(), "error", err)
	}
	return a, err
}

// proveByEmail returns the person with the e-mail address and password. If the stored
// hash was made at another cost, fresh is a new hash. proveByEmail hashes a password
// even if the person does not exist, so that the time does not reveal whether the
// person exists.
func (s *Service) proveByEmail(ctx context.Context, email, password string) (r Record, fresh string, err error) {
	err = s.store.View(ctx, func(tx Tx) (err error) {
		r, err = tx.PersonByEmail(email)
		if errors.Is(err, ledger.ErrNotFound) {
			r, err = Record{}, nil
		}
		return err
	})
	if err != nil {
		return r, "", err
	}
	return s.prove(ctx, r, password)
}

// prove checks the password of the person r. Its results are those of proveByEmail.
func (s *Service) prove(ctx context.Context, r Record, password string) (_ Record, fresh string, err error) {
	if len(password) > MaxPassword {
		password = ""
	}
	ok, outdated, err := s.hasher.verify(ctx, r.Password, password)
	if err != nil {
		return r, "", err
	}
	if !ok || !r.DisabledAt.IsZero() {
		return r, "", ErrCredentials
	}
	if outdated {
		fresh, err = s.hasher.hash(ctx, password)
	}
	return r, fresh, err
}

// openProven signs in the person r, after the password was checked. It fails if the
// password has changed since, or if the person was disabled or removed.
func (s *Service) openProven(ctx context.Context, c Client, r *Record, fresh string) (in SignedIn, token string, err error) {
	err = s.store.Change(ctx, func(tx Tx) error {
		now, err := tx.Person(r.ID)
		if errors.Is(err, ledger.ErrNotFound) || err == nil && (now.Password != r.Password || !now.DisabledAt.IsZero()) {
			return ErrCredentials
		}
		if err != nil {
			return err
		}
		if fresh != "" {
			now.Password = fresh
			if err := tx.UpdatePerson(&now); err != nil {
				return err
			}
		}
		in, token, err = s.open(tx, c, r.ID, "password")
		return err
	})
	return in, token, err
}

// SetPassword sets the password of the person that is signed in and ends the person's
// other sessions. The given old password must be the person's current one. A person
// without a password needs a session younger than FreshTime instead. Errors:
// ErrCredentials, ErrStale, ErrSession, *InputError, *DelayError.
func (s *Service) SetPassword(ctx context.Context, by SignedIn, old, password string) error {
	var r Record
	err := s.store.View(ctx, func(tx Tx) (err error) {
		r, err = present(tx, &by)
		return err
	})
	if err != nil {
		return err
	}
	if r.Password == "" {
		err = s.fresh(&by)
	} else {
		err = s.proveOld(ctx, by.Session.Client, r, old)
	}
	if err != nil {
		return err
	}
	if err := checkPassword(password, r.Email, r.Name); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.store.Change(ctx, func(tx Tx) error {
		now, err := present(tx, &by)
		if err != nil {
			return err
		}
		if now.Password != r.Password {
			return ErrCredentials
		}
		now.Password = hash
		if err := tx.UpdatePerson(&now); err != nil {
			return err
		}
		if _, err := tx.DeleteSessions(r.ID, by.Session.ID); err != nil {
			return err
		}
		return tx.Audit(s.audit(self(r.ID, by.Session.Client), "person.password", r.ID, none{}))
	})
}

// proveOld checks that old is the person's password. Failed attempts cause the same
// delays as failed attempts to sign in.
func (s *Service) proveOld(ctx context.Context, c Client, r Record, old string) error {
	attempt, err := s.begin(c, r.Email)
	if err != nil {
		return err
	}
	_, _, err = s.prove(ctx, r, old)
	switch {
	case err == nil:
		attempt.succeeded()
	case !errors.Is(err, ErrCredentials):
		attempt.cancel()
	}
	return err
}

// fresh returns ErrStale if the session began longer ago than FreshTime.
func (s *Service) fresh(by *SignedIn) error {
	if s.o.Now().Sub(by.Session.CreatedAt) > FreshTime {
		return ErrStale
	}
	return nil
}
