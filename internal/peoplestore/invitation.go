package peoplestore

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

const selectInvitation = `SELECT n, id, account, role, is_operator, email, person, registers, author, created_at, expires_at, used_at, used_by FROM invitation `

func scanInvitation(scan func(...any) error) (n int64, i people.Invitation, err error) {
	var operator, registers, created, expires, used int64
	err = scan(&n, &i.ID, &i.Account, (*string)(&i.Role), &operator, &i.Email, &i.Person, &registers, &i.By, &created, &expires, &used, &i.UsedBy)
	i.Operator, i.Registers = operator != 0, registers != 0
	i.CreatedAt, i.ExpiresAt, i.UsedAt = sqltx.Time(created), sqltx.Time(expires), sqltx.Time(used)
	return n, i, err
}

// InsertInvitation stores an invitation.
func (t tx) InsertInvitation(i *people.Invitation, d people.Digest) error {
	return t.Insert(`INSERT INTO invitation (id, digest, account, role, is_operator, email, person, registers, author, created_at, expires_at, used_at, used_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING`,
		i.ID, d[:], i.Account, string(i.Role), sqltx.Flag(i.Operator), i.Email, i.Person, sqltx.Flag(i.Registers), i.By,
		sqltx.Micros(i.CreatedAt), sqltx.Micros(i.ExpiresAt), sqltx.Micros(i.UsedAt), i.UsedBy)
}

func (t tx) invitation(condition string, arg any) (i people.Invitation, err error) {
	err = t.One(func(scan func(...any) error) (err error) {
		_, i, err = scanInvitation(scan)
		return err
	}, selectInvitation+condition, arg)
	return i, err
}

// Invitation returns the invitation with the digest.
func (t tx) Invitation(d people.Digest) (people.Invitation, error) {
	return t.invitation(`WHERE digest = $1`, d[:])
}

// InvitationByID returns the invitation with the id.
func (t tx) InvitationByID(id string) (people.Invitation, error) {
	return t.invitation(`WHERE id = $1`, id)
}

// Invitations lists the invitations that can still be accepted, newest first.
func (t tx) Invitations(ctx context.Context, account string, now time.Time, p ledger.Page) (list []people.Invitation, next string, err error) {
	last, err := ledger.Cursor(ctx, p.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	query, args := selectInvitation+`WHERE n < $1 AND expires_at > $3 AND used_at = 0`, []any{last, p.Size() + 1, sqltx.Micros(now)}
	if account != "" {
		query, args = query+` AND account = $4`, append(args, account)
	}
	more := false
	err = t.Query(func(scan func(...any) error) error {
		n, i, err := scanInvitation(scan)
		if more = len(list) == p.Size(); err != nil || more {
			return err
		}
		list, last = append(list, i), n
		return nil
	}, query+` ORDER BY n DESC LIMIT $2`, args...)
	if err == nil && more {
		next = strconv.FormatInt(last, 10)
	}
	return list, next, err
}

// UseInvitation writes UsedAt and UsedBy of the invitation.
func (t tx) UseInvitation(i *people.Invitation) error {
	return t.Update(`UPDATE invitation SET used_at = $2, used_by = $3 WHERE id = $1`, i.ID, sqltx.Micros(i.UsedAt), i.UsedBy)
}

// DeleteInvitation deletes an invitation.
func (t tx) DeleteInvitation(id string) (int64, error) {
	return t.Exec(`DELETE FROM invitation WHERE id = $1`, id)
}

// DeleteInvitationsBy deletes the unused invitations of an author.
func (t tx) DeleteInvitationsBy(author string) (int64, error) {
	return t.Exec(`DELETE FROM invitation WHERE author = $1 AND used_at = 0`, author)
}

// DeleteInvitationsFor deletes the unused invitations that recover a person, except the
// invitation with the id keep.
func (t tx) DeleteInvitationsFor(person, keep string) (int64, error) {
	return t.Exec(`DELETE FROM invitation WHERE person = $1 AND person <> '' AND used_at = 0 AND id <> $2`, person, keep)
}

// DeleteInvitationsBefore deletes the unused invitations with an expiry earlier than
// now, and the used invitations with an expiry earlier than old.
func (t tx) DeleteInvitationsBefore(now, old time.Time) (int64, error) {
	return t.Exec(`DELETE FROM invitation WHERE expires_at < $1 AND (used_at = 0 OR expires_at < $2)`, sqltx.Micros(now), sqltx.Micros(old))
}

// InsertCeremony stores a ceremony.
func (t tx) InsertCeremony(d people.Digest, kind, data string, expires time.Time) error {
	return t.Insert(`INSERT INTO ceremony (digest, kind, data, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		d[:], kind, data, sqltx.Micros(expires))
}

// TakeCeremony deletes and returns a ceremony.
func (t tx) TakeCeremony(d people.Digest, kind string) (data string, expires time.Time, err error) {
	var until int64
	err = t.One(func(scan func(...any) error) error { return scan(&data, &until) },
		`DELETE FROM ceremony WHERE digest = $1 AND kind = $2 RETURNING data, expires_at`, d[:], kind)
	return data, sqltx.Time(until), err
}

// DeleteCeremoniesBefore deletes ceremonies that expired before the given time.
func (t tx) DeleteCeremoniesBefore(end time.Time) (int64, error) {
	return t.Exec(`DELETE FROM ceremony WHERE expires_at < $1`, sqltx.Micros(end))
}

// CountCeremonies returns the number of ceremonies.
func (t tx) CountCeremonies() (n int64, err error) {
	err = t.One(func(scan func(...any) error) error { return scan(&n) }, `SELECT count(*) FROM ceremony`)
	return n, err
}
