package oauth

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Digest is the SHA-256 of an authorization code, a device code or a user code. The
// store keeps it in place of the code.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a code.
func DigestOf(code string) Digest { return sha256.Sum256([]byte(code)) }

// Authorization is a grant that a client can exchange for tokens: by an authorization
// code or by a device code.
type Authorization struct {
	Grant       string   // id of the grant; "" for a device code that nobody has answered yet
	Client      string   // client_id
	Server      string   // name of the MCP server
	RedirectURI string   // "" for a device code
	Challenge   string   // PKCE challenge, method S256; "" for a device code
	Scopes      []string // requested by the client, or granted
	UserCode    Digest   // digest of the user code; zero for an authorization code
	Denied      bool     // a person refused the device
	ExpiresAt   time.Time
	UsedAt      time.Time // zero if the code was not used yet
	PolledAt    time.Time // last request of the device for its tokens
	// ClientName and Host are shown to the person that enters the user code.
	ClientName, Host string
}

// Token connects a key with the grant that it belongs to.
type Token struct {
	ID     string      // id of the key
	Digest keys.Digest // digest of the secret
	Grant  string      // id of the grant
	Kind   keys.Kind   // keys.Access or keys.Refresh
	Method string      // how the client authenticated when it got the token; see Client.Method
	// Seed is the random number from which the successors of a refresh token are
	// derived, together with the secret. It is empty until the token is used, and again
	// after ReuseTime.
	Seed      []byte
	UsedAt    time.Time // first use of a refresh token; zero if unused
	ExpiresAt time.Time
	// AccessID and RefreshID are the ids of the successors, empty until the token is
	// used.
	AccessID, RefreshID string
}

// GrantQuery selects grants to list. Empty fields match all grants.
type GrantQuery struct {
	ledger.Page
	Account string // id of the account
	Client  string
	Server  string
	Key     string // id of the agent key that gave the grant
	Person  string // id of the person that gave the grant
	// Live selects grants that are neither revoked nor expired at this time. Zero
	// selects all grants.
	Live time.Time
}

// Store keeps grants, authorizations and tokens. It is safe for concurrent use. Its
// failures wrap ledger.ErrUnavailable. Times are stored in microseconds.
type Store interface {
	// View calls do with a transaction that can only read. It returns an error of do
	// unchanged.
	View(ctx context.Context, do func(Tx) error) error
	// Change calls do in a transaction. Changes run one after the other, even those of
	// different nodes. If do returns an error, the transaction is rolled back and the
	// error is returned unchanged. The function do must be quick, because other changes
	// wait.
	Change(ctx context.Context, do func(Tx) error) error
}

// Tx reads and changes the rows of OAuth. Methods that look for one row return
// ledger.ErrNotFound if it does not exist. Methods that delete return the number of
// deleted rows.
type Tx interface {
	// Audit writes a row of the audit log.
	Audit(a ledger.Audit) error

	InsertGrant(g *Grant) error
	Grant(id string) (Grant, error)
	// Grants lists the grants that match the query, newest first. The cursor is "" on
	// the last page.
	Grants(ctx context.Context, q GrantQuery) ([]Grant, string, error)
	// Orphans lists live grants with a key that was deleted, disabled or rotated.
	Orphans(limit int) ([]Grant, error)
	// Unfinished lists revoked grants without EndedAt, which may have live tokens.
	Unfinished(limit int) ([]Grant, error)
	// UpdateGrant writes Scopes, Limits, ExpiresAt, RevokedAt, EndedAt and Reason.
	UpdateGrant(g *Grant) error

	InsertAuthorization(a *Authorization, d Digest) error
	Authorization(d Digest) (Authorization, error)
	// AuthorizationByUserCode returns the authorization of a device, and the digest of
	// its device code.
	AuthorizationByUserCode(d Digest) (Authorization, Digest, error)
	// UpdateAuthorization writes Grant, Scopes, Denied, UsedAt and PolledAt.
	UpdateAuthorization(a *Authorization, d Digest) error
	// CountDevices counts the devices that wait for a person at the time.
	CountDevices(at time.Time) (int64, error)
	DeleteAuthorizationsBefore(end time.Time) (int64, error)

	InsertToken(t *Token) error
	Token(d keys.Digest) (Token, error)
	// Tokens lists the tokens of a grant, in the order of their ids, beginning after the
	// given id.
	Tokens(grant, after string, limit int) ([]Token, error)
	// LatestTokens lists the tokens of a grant, the newest first.
	LatestTokens(grant string, limit int) ([]Token, error)
	// CountTokens counts the tokens of a grant with an id after the given one, up to limit.
	CountTokens(grant, after string, limit int) (int64, error)
	// HasTokens reports whether the grant has a token that expires after the time.
	HasTokens(grant string, at time.Time) (bool, error)
	// UseToken writes Seed, UsedAt, AccessID and RefreshID.
	UseToken(t *Token) error
	// ForgetSeeds deletes the seeds of tokens that were first used before the time.
	ForgetSeeds(used time.Time) (int64, error)
	// DeleteTokensBefore deletes up to limit tokens that expired before the time,
	// together with their keys.
	DeleteTokensBefore(end time.Time, limit int) (int64, error)
}
