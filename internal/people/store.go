package people

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Digest is the SHA-256 of a secret. The store keeps the digest in place of the secret.
type Digest [sha256.Size]byte

// digestOf returns the digest of a secret.
func digestOf(secret string) Digest { return sha256.Sum256([]byte(secret)) }

// Record is a person with the hash of its password.
type Record struct {
	Person
	Password string // hash in the PHC format; "" without a password
}

// Key is a passkey with the data that are needed to verify an assertion.
type Key struct {
	Passkey
	Person       string
	CredentialID []byte
	Credential   string // JSON of a webauthn.Credential
}

// Store keeps people. It is safe for concurrent use. Its failures wrap
// ledger.ErrUnavailable. Times are stored in microseconds.
type Store interface {
	// View calls do(tx) with a transaction that can only read. It returns an error of
	// do unchanged.
	View(ctx context.Context, do func(Tx) error) error
	// Change calls do(tx) with a transaction that can write. Changes run one after the
	// other, even those of different nodes. If do returns an error, the transaction is
	// rolled back and Change returns the error unchanged. A call of do must be quick,
	// because other changes wait.
	Change(ctx context.Context, do func(Tx) error) error
}

// Tx reads and changes people. Methods that look for one row return ledger.ErrNotFound
// if the row does not exist. Lists are in the order of creation unless noted. Methods
// that delete return the number of deleted rows.
type Tx interface {
	// Audit writes a row of the audit log.
	Audit(a ledger.Audit) error

	Person(id string) (Record, error)
	PersonByEmail(email string) (Record, error)
	PersonByProvider(issuer, subject string) (Record, error)
	// Persons lists all persons, or, if account is not "", only the members of that
	// account. The cursor is "" on the last page.
	Persons(ctx context.Context, account string, p ledger.Page) ([]Person, string, error)
	// InsertPerson stores a new person with its memberships. It does not store
	// passkeys. It returns ledger.ErrExists if the e-mail address is taken.
	InsertPerson(r *Record) error
	// UpdatePerson writes all fields except ID, CreatedAt and Passkeys, and the
	// memberships. It returns ledger.ErrExists if the e-mail address is taken.
	UpdatePerson(r *Record) error
	// DeletePerson deletes a person with its memberships, credentials and sessions, and
	// the invitations that recover it.
	DeletePerson(id string) (int64, error)

	Keys(person string) ([]Key, error)
	// InsertKey stores a passkey. It returns ledger.ErrExists if the credential id is
	// in use.
	InsertKey(k *Key) error
	// UseKey writes UsedAt and Credential, which change with each use of the passkey.
	UseKey(k *Key) error
	DeleteKey(person, id string) (int64, error)
	DeleteKeys(person string) (int64, error)

	// ConnectProvider stores that the person is connected with the provider's user. It
	// returns ledger.ErrExists if a person is connected with that user already.
	ConnectProvider(issuer, subject, person string, at time.Time) error
	DisconnectProvider(person string) (int64, error)

	// InsertSession stores a session. Its ExpiresAt is the end that requests cannot
	// delay.
	InsertSession(s *Session, d Digest) error
	// Session returns a session and its person. In the session, ExpiresAt is the end
	// that requests cannot delay.
	Session(d Digest) (Session, Record, error)
	SessionByID(id string) (Session, error)
	Sessions(person string) ([]Session, error)
	// TouchSession writes SeenAt and Client of the session.
	TouchSession(s *Session) error
	DeleteSession(id string) (int64, error)
	// DeleteSessions deletes the sessions of a person except the session with the id
	// keep.
	DeleteSessions(person, keep string) (int64, error)
	// DeleteSessionsBefore deletes the sessions with a stored ExpiresAt before the
	// given time.
	DeleteSessionsBefore(end time.Time) (int64, error)

	InsertInvitation(i *Invitation, d Digest) error
	Invitation(d Digest) (Invitation, error)
	InvitationByID(id string) (Invitation, error)
	// Invitations lists the unused invitations that have not expired, newest first. If
	// account is not "", it lists only the invitations for that account.
	Invitations(ctx context.Context, account string, now time.Time, p ledger.Page) ([]Invitation, string, error)
	// UseInvitation writes UsedAt and UsedBy.
	UseInvitation(i *Invitation) error
	DeleteInvitation(id string) (int64, error)
	// DeleteInvitationsBy deletes the unused invitations that a person sent.
	DeleteInvitationsBy(author string) (int64, error)
	// DeleteInvitationsFor deletes the unused invitations that recover a person, except
	// the invitation with the id keep.
	DeleteInvitationsFor(person, keep string) (int64, error)
	// DeleteInvitationsBefore deletes the unused invitations with an expiry earlier
	// than now, and the used invitations with an expiry earlier than old.
	DeleteInvitationsBefore(now, old time.Time) (int64, error)

	// InsertCeremony stores a ceremony.
	InsertCeremony(d Digest, kind, data string, expires time.Time) error
	// TakeCeremony deletes and returns a ceremony of the kind, even an expired one.
	TakeCeremony(d Digest, kind string) (data string, expires time.Time, err error)
	// DeleteCeremoniesBefore deletes ceremonies that expired before the given time.
	DeleteCeremoniesBefore(end time.Time) (int64, error)
	CountCeremonies() (int64, error)
}
