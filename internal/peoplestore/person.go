package peoplestore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// personColumns selects a person with its memberships and passkeys in one query. The
// memberships are one text, with an account id and a role on each line. The passkeys
// are another text, with an id, two times and a name on each line; the name has no line
// break.
const personColumns = `p.n, p.id, p.email, p.name, p.is_operator, p.password, p.created_at, p.last_sign_in, p.disabled_at,
	coalesce((SELECT string_agg(m.account || ' ' || m.role, '
') FROM membership m WHERE m.person = p.id), ''),
	coalesce((SELECT string_agg(k.id || ' ' || k.created_at || ' ' || k.used_at || ' ' || k.name, '
') FROM passkey k WHERE k.person = p.id), ''),
	(SELECT count(*) FROM provider_user u WHERE u.person = p.id)`

// scanPerson scans the columns of personColumns into r. It scans the columns after them
// into the given variables.
func scanPerson(scan func(...any) error, more ...any) (n int64, r people.Record, err error) {
	var operator, created, signIn, disabled, provider int64
	var accounts, passkeys string
	err = scan(append([]any{&n, &r.ID, &r.Email, &r.Name, &operator, &r.Password, &created, &signIn, &disabled,
		&accounts, &passkeys, &provider}, more...)...)
	if err != nil {
		return 0, r, err
	}
	r.Operator, r.HasPassword, r.HasProvider = operator != 0, r.Password != "", provider != 0
	r.CreatedAt, r.LastSignIn, r.DisabledAt = sqltx.Time(created), sqltx.Time(signIn), sqltx.Time(disabled)
	for line := range lines(accounts) {
		account, role, _ := strings.Cut(line, " ")
		r.Accounts = append(r.Accounts, people.Membership{Account: account, Role: people.Role(role)})
	}
	slices.SortFunc(r.Accounts, func(a, b people.Membership) int { return strings.Compare(a.Account, b.Account) })
	for line := range lines(passkeys) {
		k, err := parsePasskey(line)
		if err != nil {
			return 0, r, fmt.Errorf("passkey of %s: %w", r.ID, err)
		}
		r.Passkeys = append(r.Passkeys, k)
	}
	slices.SortFunc(r.Passkeys, func(a, b people.Passkey) int { return strings.Compare(a.ID, b.ID) })
	return n, r, nil
}

// lines iterates over the lines of a text. An empty text has no lines.
func lines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if text == "" {
			return
		}
		strings.SplitSeq(text, "\n")(yield)
	}
}

func parsePasskey(line string) (k people.Passkey, err error) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) != 4 {
		return k, fmt.Errorf("%d fields", len(fields))
	}
	created, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return k, err
	}
	used, err := strconv.ParseInt(fields[2], 10, 64)
	return people.Passkey{ID: fields[0], Name: fields[3], CreatedAt: sqltx.Time(created), UsedAt: sqltx.Time(used)}, err
}

func (t tx) person(condition string, args ...any) (r people.Record, err error) {
	err = t.One(func(scan func(...any) error) (err error) {
		_, r, err = scanPerson(scan)
		return err
	}, `SELECT `+personColumns+` FROM person p WHERE `+condition, args...)
	return r, err
}

// Person returns the person with the id.
func (t tx) Person(id string) (people.Record, error) { return t.person(`p.id = $1`, id) }

// PersonByEmail returns the person with the e-mail address.
func (t tx) PersonByEmail(email string) (people.Record, error) {
	return t.person(`p.email = $1`, email)
}

// PersonByProvider returns the person that is connected with the provider's user.
func (t tx) PersonByProvider(issuer, subject string) (people.Record, error) {
	return t.person(`p.id = (SELECT u.person FROM provider_user u WHERE u.issuer = $1 AND u.subject = $2)`, issuer, subject)
}

// Persons lists persons in the order of their creation.
func (t tx) Persons(ctx context.Context, account string, p ledger.Page) (list []people.Person, next string, err error) {
	last, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	query, args := `SELECT `+personColumns+` FROM person p WHERE p.n > $1`, []any{last, p.Size() + 1}
	if account != "" {
		query, args = query+` AND p.id IN (SELECT m.person FROM membership m WHERE m.account = $3)`, append(args, account)
	}
	more := false
	err = t.Query(func(scan func(...any) error) error {
		n, r, err := scanPerson(scan)
		if more = len(list) == p.Size(); err != nil || more {
			return err
		}
		list, last = append(list, r.Person), n
		return nil
	}, query+` ORDER BY p.n LIMIT $2`, args...)
	if err == nil && more {
		next = strconv.FormatInt(last, 10)
	}
	return list, next, err
}

// InsertPerson stores a new person with its memberships.
func (t tx) InsertPerson(r *people.Record) error {
	err := t.Insert(`INSERT INTO person (id, email, name, is_operator, password, created_at, last_sign_in, disabled_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		r.ID, r.Email, r.Name, sqltx.Flag(r.Operator), r.Password, sqltx.Micros(r.CreatedAt), sqltx.Micros(r.LastSignIn), sqltx.Micros(r.DisabledAt))
	if err != nil {
		return err
	}
	return t.insertMemberships(r)
}

func (t tx) insertMemberships(r *people.Record) error {
	for _, m := range r.Accounts {
		if err := t.Insert(`INSERT INTO membership (person, account, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r.ID, m.Account, string(m.Role)); err != nil {
			return err
		}
	}
	return nil
}

// UpdatePerson writes a person and its memberships.
func (t tx) UpdatePerson(r *people.Record) error {
	other := false
	err := t.Query(func(scan func(...any) error) error { other = true; return scan(new(string)) },
		`SELECT id FROM person WHERE email = $1 AND id <> $2`, r.Email, r.ID)
	if err != nil {
		return err
	}
	if other {
		return ledger.ErrExists
	}
	err = t.Update(`UPDATE person SET email = $2, name = $3, is_operator = $4, password = $5, last_sign_in = $6, disabled_at = $7 WHERE id = $1`,
		r.ID, r.Email, r.Name, sqltx.Flag(r.Operator), r.Password, sqltx.Micros(r.LastSignIn), sqltx.Micros(r.DisabledAt))
	if err != nil {
		return err
	}
	if _, err := t.Exec(`DELETE FROM membership WHERE person = $1`, r.ID); err != nil {
		return err
	}
	return t.insertMemberships(r)
}

// DeletePerson deletes a person with its memberships, credentials and sessions, and the
// invitations that recover it.
func (t tx) DeletePerson(id string) (int64, error) {
	for _, query := range []string{
		`DELETE FROM membership WHERE person = $1`,
		`DELETE FROM passkey WHERE person = $1`,
		`DELETE FROM provider_user WHERE person = $1`,
		`DELETE FROM person_session WHERE person = $1`,
		`DELETE FROM invitation WHERE person = $1 AND person <> ''`,
	} {
		if _, err := t.Exec(query, id); err != nil {
			return 0, err
		}
	}
	return t.Exec(`DELETE FROM person WHERE id = $1`, id)
}

// ConnectProvider stores that the person is connected with the provider's user.
func (t tx) ConnectProvider(issuer, subject, person string, at time.Time) error {
	return t.Insert(`INSERT INTO provider_user (issuer, subject, person, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		issuer, subject, person, sqltx.Micros(at))
}

// DisconnectProvider deletes the person's connection to the provider.
func (t tx) DisconnectProvider(person string) (int64, error) {
	return t.Exec(`DELETE FROM provider_user WHERE person = $1`, person)
}
