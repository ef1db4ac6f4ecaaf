// Package oauth is the core of Farebox's authorization server (OAuth 2.1). It keeps the
// grants that people give to clients, and issues and revokes the tokens of those grants.
//
// Tokens are keys of the kinds keys.Access and keys.Refresh. MCP servers find an access
// token as they find an agent key, so the caps, rates and revocation of keys hold for
// tokens, too. Package oauth has no HTTP; see package internal/oauth/server.
package oauth

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Default lifetimes, and fixed durations.
const (
	DefaultAccessLife  = 15 * 24 * time.Hour
	DefaultRefreshLife = 30 * 24 * time.Hour

	// CodeLife is how long an authorization code can be exchanged. RFC 6749, section
	// 4.1.2, recommends at most 10 minutes.
	CodeLife = time.Minute
	// ReplayTime is how long a used code or device code stays in the store. A second use
	// within this time revokes the grant.
	ReplayTime = time.Hour
	// ReuseTime is how long after its use a refresh token returns the same successors
	// again. Clients that share a refresh token between processes refresh at the same
	// time. A later use revokes the grant (RFC 9700, section 4.14.2).
	ReuseTime = 60 * time.Second
	// ForgetTime is how long an expired token stays in the store.
	ForgetTime = 30 * 24 * time.Hour
)

// Grant is the permission of a client to call one MCP server at the expense of an
// account. All tokens of a grant end with it.
type Grant struct {
	ID          string           // "grant_" and a UUIDv7
	Account     string           // id of the account that pays
	Environment keys.Environment // live or test
	Server      string           // name of the MCP server
	Client      string           // client_id
	ClientName  string           // the name that the client claims; may be empty
	Host        string           // host to which codes are sent; "" without a redirect
	Scopes      []string         // scopes that tokens may have; empty for none
	Limits      *keys.Limits     // limits of the tokens; nil for none
	Lineage     string           // lineage of the tokens, which caps and rates count by
	Key         string           // id of the agent key that gave the grant; "" if a person gave it
	Person      string           // id of the person that gave the grant; "" if a key gave it
	CreatedAt   time.Time
	ExpiresAt   time.Time // no token of the grant lives longer; zero for no end
	RevokedAt   time.Time // zero if the grant was not revoked
	EndedAt     time.Time // when all tokens of the revoked grant were deleted; zero before
	Reason      string    // why the grant was revoked
}

// Live reports whether the grant can be used at the given time.
func (g *Grant) Live(now time.Time) bool {
	return g.RevokedAt.IsZero() && (g.ExpiresAt.IsZero() || now.Before(g.ExpiresAt))
}

// Lives are the lifetimes of new tokens.
type Lives struct{ Access, Refresh time.Duration }

// Tokens are issued to a client for a code or a refresh token. The secrets are not
// stored and cannot be shown again.
type Tokens struct {
	Access    string // secret of the access token
	Refresh   string // secret of the refresh token; "" if the client gets none
	Scopes    []string
	ExpiresIn time.Duration // remaining lifetime of the access token
}

// Keys stores tokens as keys. *admin.Service implements it.
type Keys interface {
	// Key returns the key with the id, or an *admin.Error with the code NotFound.
	Key(ctx context.Context, id string) (keys.Key, error)
	// IssueToken stores a token. It does nothing if a key with the same id exists.
	IssueToken(ctx context.Context, actor admin.Actor, k keys.Key) error
	// DeleteTokens deletes tokens, so that no lookup accepts them afterwards. It does
	// nothing for a token that does not exist or was deleted before.
	DeleteTokens(ctx context.Context, actor admin.Actor, ids []string) error
}

// Persons knows the people that give grants. *people.Service implements it.
type Persons interface {
	// ManagesKeys reports whether the person may create keys of the account now.
	ManagesKeys(ctx context.Context, person, account string) (bool, error)
}

// Options are the fixed parts of a Service. All fields except Catalogue must be
// set.
type Options struct {
	Now     func() time.Time // truncated to microseconds
	Keys    Keys
	Secrets func() *keys.Format // form of secrets in the current config; never returns nil
	// Catalogue returns the declared scopes of the current config. Nil, or a function that
	// returns nil, means that no scope includes another one.
	Catalogue func() *keys.Catalogue
}

// Service keeps grants and issues tokens. It is safe for concurrent use.
type Service struct {
	store   Store
	o       Options
	persons Persons // nil means that grants of persons are not checked again

	mu   sync.Mutex
	next string // cursor of the next grants that Sweep checks
}

// New returns a service that uses the store.
func New(store Store, o Options) *Service {
	if o.Catalogue == nil {
		o.Catalogue = func() *keys.Catalogue { return nil }
	}
	return &Service{store: store, o: o}
}

// WithPersons makes the service end the grants of persons that may not give them any more.
// It returns the service. Call it before the service is used.
func (s *Service) WithPersons(p Persons) *Service {
	s.persons = p
	return s
}

// Now returns the time by the clock of the service.
func (s *Service) Now() time.Time { return s.o.Now() }

// Description returns the explanation of a scope for people, "" for none.
func (s *Service) Description(scope string) string { return s.o.Catalogue().Description(scope) }

// audit returns a row of the audit log.
func (s *Service) audit(actor admin.Actor, action, target string, detail any) ledger.Audit {
	return admin.AuditRow(actor, action, target, detail, s.o.Now())
}

// earliest returns the earliest of the times. Zero times count as never.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
