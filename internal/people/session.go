package people

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// signedIn is the detail of the audit row of a sign-in.
type signedIn struct {
	Session string `json:"session"`
	By      string `json:"by"` // the credential: "password", "passkey" or "provider"
}

// open begins a session of a person, with a new token. It first ends the person's
// oldest sessions, so that at most MaxSessions remain. The last argument names the
// credential, such as "password".
func (s *Service) open(tx Tx, c Client, person, how string) (in SignedIn, token string, err error) {
	now, settings := s.o.Now(), s.current.Load()
	r, err := tx.Person(person)
	if err != nil {
		return in, "", err
	}
	if _, err := tx.DeleteSessionsBefore(now); err != nil {
		return in, "", err
	}
	sessions, err := tx.Sessions(person)
	if err != nil {
		return in, "", err
	}
	for _, old := range sessions[:max(0, len(sessions)-MaxSessions+1)] {
		if _, err := tx.DeleteSession(old.ID); err != nil {
			return in, "", err
		}
	}
	session := Session{
		ID: id.New("ses_"), Person: person, Client: c,
		CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(settings.SessionLife),
	}
	token, digest := newSecret(SessionPrefix)
	if err := tx.InsertSession(&session, digest); err != nil {
		return in, "", err
	}
	r.LastSignIn = now
	if err := tx.UpdatePerson(&r); err != nil {
		return in, "", err
	}
	err = tx.Audit(s.audit(self(person, c), "person.signin", person, signedIn{session.ID, how}))
	session.ExpiresAt = settings.end(&session)
	return SignedIn{r.Person, session}, token, err
}

// end returns the time at which the session ends if no further request comes.
// s.ExpiresAt is the time in the store, at which the session ends even if requests
// come.
func (c *config) end(s *Session) time.Time {
	end := s.ExpiresAt
	for _, other := range []time.Time{s.CreatedAt.Add(c.SessionLife), s.SeenAt.Add(c.SessionIdle)} {
		if other.Before(end) {
			end = other
		}
	}
	return end
}

// Authenticate returns the person and the session of a token. It reads the store each
// time, so that the end of a session is effective at once on every node. It writes the
// time and the client of the request at most once a minute. Errors: ErrSession.
func (s *Service) Authenticate(ctx context.Context, c Client, token string) (SignedIn, error) {
	d, ok := parseSecret(SessionPrefix, token)
	if !ok {
		return SignedIn{}, ErrSession
	}
	var in SignedIn
	err := s.store.View(ctx, func(tx Tx) (err error) {
		in, err = s.session(tx, d)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	now := s.o.Now()
	if now.Sub(in.Session.SeenAt) < touchEvery {
		return in, nil
	}
	err = s.store.Change(ctx, func(tx Tx) (err error) {
		// The session may have ended after View has read it.
		if in, err = s.session(tx, d); err != nil || now.Sub(in.Session.SeenAt) < touchEvery {
			return err
		}
		absolute := in.Session
		absolute.SeenAt, absolute.Client = now, shown(c)
		if err := tx.TouchSession(&absolute); err != nil {
			return err
		}
		in, err = s.session(tx, d)
		return err
	})
	return in, err
}

// session returns the session with the digest, if it has not ended and its person is not
// disabled. Otherwise it returns ErrSession.
func (s *Service) session(tx Tx, d Digest) (SignedIn, error) {
	session, r, err := tx.Session(d)
	if errors.Is(err, ledger.ErrNotFound) {
		return SignedIn{}, ErrSession
	}
	if err != nil {
		return SignedIn{}, err
	}
	session.ExpiresAt = s.current.Load().end(&session)
	if !s.o.Now().Before(session.ExpiresAt) || !r.DisabledAt.IsZero() {
		return SignedIn{}, ErrSession
	}
	return SignedIn{r.Person, session}, nil
}

// SignOut ends the session of the token. An unknown token is no error.
func (s *Service) SignOut(ctx context.Context, c Client, token string) error {
	d, ok := parseSecret(SessionPrefix, token)
	if !ok {
		return nil
	}
	return s.store.Change(ctx, func(tx Tx) error {
		session, _, err := tx.Session(d)
		if errors.Is(err, ledger.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.DeleteSession(session.ID); err != nil {
			return err
		}
		return tx.Audit(s.audit(self(session.Person, shown(c)), "session.end", session.ID, ended{Person: session.Person}))
	})
}

// ended is the detail of the audit row for ended sessions.
type ended struct {
	Person   string `json:"person,omitempty"`
	Sessions int64  `json:"sessions,omitempty"`
}

// Sessions lists the current sessions of a person, the newest first; at most
// MaxSessions.
func (s *Service) Sessions(ctx context.Context, person string) (list []Session, err error) {
	err = s.store.View(ctx, func(tx Tx) (err error) {
		if _, err := tx.Person(person); err != nil {
			return explain(err, "person", person)
		}
		list, err = tx.Sessions(person)
		return err
	})
	settings, now := s.current.Load(), s.o.Now()
	for i := range list {
		list[i].ExpiresAt = settings.end(&list[i])
	}
	list = slices.DeleteFunc(list, func(s Session) bool { return !now.Before(s.ExpiresAt) })
	slices.Reverse(list)
	return list, err
}

// EndSession ends a session. If person is not "", it must be that person's session.
// Errors: *admin.Error if there is no such session.
func (s *Service) EndSession(ctx context.Context, actor admin.Actor, person, session string) error {
	return s.store.Change(ctx, func(tx Tx) error {
		found, err := tx.SessionByID(session)
		if err == nil && person != "" && found.Person != person {
			err = ledger.ErrNotFound
		}
		if err != nil {
			return explain(err, "session", session)
		}
		if err := authorize(tx, actor, "", found.Person); err != nil {
			return err
		}
		if _, err := tx.DeleteSession(session); err != nil {
			return err
		}
		return tx.Audit(s.audit(actor, "session.end", session, ended{Person: found.Person}))
	})
}

// EndSessions ends the sessions of a person, except the session with the id keep. It
// returns the number of ended sessions. Errors: *admin.Error if there is no such
// person.
func (s *Service) EndSessions(ctx context.Context, actor admin.Actor, person, keep string) (n int, err error) {
	err = s.store.Change(ctx, func(tx Tx) error {
		if _, err := tx.Person(person); err != nil {
			return explain(err, "person", person)
		}
		if err := authorize(tx, actor, "", person); err != nil {
			return err
		}
		count, err := tx.DeleteSessions(person, keep)
		if n = int(count); err != nil || n == 0 {
			return err
		}
		return tx.Audit(s.audit(actor, "session.end", person, ended{Sessions: count}))
	})
	return n, err
}
