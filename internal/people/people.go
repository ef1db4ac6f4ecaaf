// Package people keeps the persons that use the console: their invitations, their
// credentials (passkeys, passwords, users of an OpenID provider) and their sessions. It
// does not speak HTTP. The console, and the operations of package ops, call its
// Service.
//
// A Store keeps only the digests of secrets. It runs changes one after the other, even
// those of different nodes. Sessions are not cached: a session that has ended is
// refused on every node at once.
package people

import (
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/internal/identity"
)

// Role says how much a person may do at an account.
type Role string

// The roles.
const (
	Owner  Role = "owner"  // reads the account and manages its keys
	Viewer Role = "viewer" // reads the account
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r == Owner || r == Viewer }

// Membership is the role of a person at one account.
type Membership struct {
	Account string `json:"account"` // id of the account
	Role    Role   `json:"role"`
}

// Person is a user of the console. It does not contain the password or other secrets.
type Person struct {
	ID         string // "psn_" and a UUIDv7
	Email      string // the name for signing in: unique, in lower case, at most MaxEmail bytes, not verified
	Name       string // for display; at most MaxName bytes, may be empty
	Operator   bool
	Accounts   []Membership // in the order of the account ids; at most MaxMemberships
	CreatedAt  time.Time
	LastSignIn time.Time // zero before the first
	DisabledAt time.Time // zero unless the person is disabled

	HasPassword bool
	HasProvider bool      // whether the person is connected with a user of the OpenID provider
	Passkeys    []Passkey // oldest first; at most MaxPasskeys
}

// Role returns the role of the person at the account, or "" if the person has no
// membership there. It ignores Operator: an operator has rights at all accounts, but no
// role.
func (p *Person) Role(account string) Role {
	for _, m := range p.Accounts {
		if m.Account == account {
			return m.Role
		}
	}
	return ""
}

// Rights returns the rights that the person has at every account: identity.Operator if
// the person is an operator and not disabled, and otherwise no right. A member has
// rights only at the accounts of its memberships; see Role.
func (p *Person) Rights() identity.Right {
	if p.Operator && p.DisabledAt.IsZero() {
		return identity.Operator
	}
	return 0
}

// Passkey describes a passkey of a person.
type Passkey struct {
	ID        string // "pky_" and a UUIDv7
	Name      string // chosen by the person; at most MaxName bytes
	CreatedAt time.Time
	UsedAt    time.Time // zero before the first use
}

// Client describes the sender of a request.
type Client struct {
	Address netip.Addr // the zero Addr if unknown; all clients with an unknown address share one limit
	Agent   string     // the header User-Agent; stored shortened to MaxAgent bytes
}

// Session is a time during which a person is signed in.
type Session struct {
	ID        string // "ses_" and a UUIDv7; the secret is the token, which is not kept
	Person    string // id of the person
	Client    Client // the client of the request at SeenAt
	CreatedAt time.Time
	SeenAt    time.Time // time of the last request, at most a minute too early; it is written once a minute
	ExpiresAt time.Time // end of the session if no further request comes
}

// SignedIn is a person together with the session that was used.
type SignedIn struct {
	Person  Person
	Session Session
}

// NewInvitation describes an invitation to create. An invitation is for a member of an
// account, for an operator, or for an existing person that gets new credentials.
type NewInvitation struct {
	Account  string        // id of the account; "" if Operator or Person is set
	Role     Role          // role at the account; "" means Viewer
	Operator bool          // accepting it makes the person an operator
	Email    string        // the only e-mail address that may accept it; "" means any
	Person   string        // id of a person that gets new credentials (recovery); "" otherwise
	Life     time.Duration // time until it expires; 0 means Settings.InvitationLife; at most MaxInvitationLife
}

// Invitation lets one person in, once. The store has only the digest of its secret.
type Invitation struct {
	ID        string // "inv_" and a UUIDv7
	Account   string // as in NewInvitation, or the id of the account that a registration will create
	Role      Role
	Operator  bool
	Email     string
	Person    string
	Registers bool   // accepting it creates the account (self-registration)
	By        string // the author, in the form that the audit log uses
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // zero if it was not accepted
	UsedBy    string    // id of the person that accepted it
}

// Recovers reports whether the invitation replaces the credentials of an existing
// person. Accepting it then needs no Profile.
func (i *Invitation) Recovers() bool { return i.Person != "" }

// Profile is the data that a new person enters when accepting an invitation. A Profile
// is ignored if the invitation recovers a person.
type Profile struct {
	Email string // ignored if the invitation has an e-mail address
	Name  string // may be empty
}

// Bounds of the values in this package.
const (
	MaxEmail          = 254 // bytes
	MaxName           = 120 // bytes; for names of persons and passkeys
	MaxAgent          = 200 // bytes
	MaxPassword       = 256 // bytes
	MinPassword       = 10  // characters
	MaxMemberships    = 100
	MaxPasskeys       = 20
	MaxSessions       = 50 // sessions of one person; a further sign-in ends the oldest
	MaxInvitationLife = 30 * 24 * time.Hour
)

// Prefixes of secrets. Each is followed by 43 characters of base64url.
const (
	InvitationPrefix = "fbi_"
	SessionPrefix    = "fbs_"
	CeremonyPrefix   = "fbc_" // for ceremonies with a passkey or the provider
)
