package peoplestore

import (
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

const sessionColumns = `s.id, s.person, s.address, s.agent, s.created_at, s.seen_at, s.ends_at`

// sessionRow receives the columns of a session.
type sessionRow struct {
	people.Session
	address             string
	created, seen, ends int64
}

func (r *sessionRow) columns() []any {
	return []any{&r.ID, &r.Person, &r.address, &r.Client.Agent, &r.created, &r.seen, &r.ends}
}

func (r *sessionRow) session() people.Session {
	r.Client.Address, _ = netip.ParseAddr(r.address) // an empty text, which fails to parse, leaves the zero Addr
	r.CreatedAt, r.SeenAt, r.ExpiresAt = sqltx.Time(r.created), sqltx.Time(r.seen), sqltx.Time(r.ends)
	return r.Session
}

// address returns the text that is stored for an address.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// InsertSession stores a session.
func (t tx) InsertSession(s *people.Session, d people.Digest) error {
	return t.Insert(`INSERT INTO person_session (id, digest, person, address, agent, created_at, seen_at, ends_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		s.ID, d[:], s.Person, address(s.Client.Address), s.Client.Agent, sqltx.Micros(s.CreatedAt), sqltx.Micros(s.SeenAt), sqltx.Micros(s.ExpiresAt))
}

// Session returns a session and its person, in one statement.
func (t tx) Session(d people.Digest) (s people.Session, r people.Record, err error) {
	err = t.One(func(scan func(...any) error) (err error) {
		var row sessionRow
		_, r, err = scanPerson(scan, row.columns()...)
		s = row.session()
		return err
	}, `SELECT `+personColumns+`, `+sessionColumns+` FROM person_session s JOIN person p ON p.id = s.person WHERE s.digest = $1`, d[:])
	return s, r, err
}

// SessionByID returns the session with the id.
func (t tx) SessionByID(id string) (s people.Session, err error) {
	err = t.One(func(scan func(...any) error) error {
		var row sessionRow
		err := scan(row.columns()...)
		s = row.session()
		return err
	}, `SELECT `+sessionColumns+` FROM person_session s WHERE s.id = $1`, id)
	return s, err
}

// Sessions lists the sessions of a person.
func (t tx) Sessions(person string) (list []people.Session, err error) {
	err = t.Query(func(scan func(...any) error) error {
		var row sessionRow
		err := scan(row.columns()...)
		list = append(list, row.session())
		return err
	}, `SELECT `+sessionColumns+` FROM person_session s WHERE s.person = $1 ORDER BY s.n`, person)
	return list, err
}

// TouchSession writes SeenAt and Client of the session.
func (t tx) TouchSession(s *people.Session) error {
	return t.Update(`UPDATE person_session SET seen_at = $2, address = $3, agent = $4 WHERE id = $1`,
		s.ID, sqltx.Micros(s.SeenAt), address(s.Client.Address), s.Client.Agent)
}

// DeleteSession deletes a session.
func (t tx) DeleteSession(id string) (int64, error) {
	return t.Exec(`DELETE FROM person_session WHERE id = $1`, id)
}

// DeleteSessions deletes the sessions of a person except the session with the id keep.
func (t tx) DeleteSessions(person, keep string) (int64, error) {
	return t.Exec(`DELETE FROM person_session WHERE person = $1 AND id <> $2`, person, keep)
}

// DeleteSessionsBefore deletes the sessions with a stored end before the given time.
func (t tx) DeleteSessionsBefore(end time.Time) (int64, error) {
	return t.Exec(`DELETE FROM person_session WHERE ends_at < $1`, sqltx.Micros(end))
}
