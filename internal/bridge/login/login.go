// Package login gets access tokens for a bridge that was given none: by OAuth, with a
// person at a browser (MCP 2025-11-25, "Authorization"), from then on by refresh tokens.
//
// A server that refuses a request names its metadata (RFC 9728). These name its
// authorization server, which has metadata of its own (RFC 8414). The program registers
// itself there (RFC 7591), sends a person to the server's page, and receives the answer
// at an address of this machine (RFC 8252), with PKCE (RFC 7636), the issuer's name
// (RFC 9207) and the resource that the token is for (RFC 8707).
package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/tokens"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// Store keeps the tokens between two starts. [*tokens.Store] is the one of the program.
type Store interface {
	Load(server string) (*tokens.Grant, error)
	Save(g *tokens.Grant) (place string, err error)
	Delete(server string) error
	Lock(ctx context.Context, server string, wait func()) (unlock func(), err error)
}

// Defaults of Options, and bounds.
const (
	DefaultPatience = 5 * time.Minute

	// early is the time before the end of a token at which it is renewed, or less for a
	// short one.
	early = 30 * time.Second
	// pause is the time after a failed sign-in in which no page is opened again, because
	// models repeat calls that fail.
	pause = 5 * time.Minute
)

// Options configure a Source. Server, Store and Say are required.
type Options struct {
	Server *url.URL // the MCP endpoint
	Store  Store

	ClientID string // a client that the authorization server knows; "" registers one

	// Open opens a page in a browser. If it is nil or fails, the person has to.
	Open func(address string) error
	// Paste has lines of a person at a terminal: the address at which a browser on another
	// machine has ended. It may be nil.
	Paste io.Reader
	// Say prints a line for people. It never gets a token.
	Say func(format string, args ...any)

	Patience time.Duration    // for the person at the browser; 0 means DefaultPatience
	Now      func() time.Time // nil means the time of internal/clock
}

// CheckServer returns an error that explains why nobody can sign in at a server: tokens
// are sent over https, or to this machine.
func CheckServer(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && weburl.IsLoopback(u.Hostname()) {
		return nil
	}
	return errors.New("a sign-in needs an https:// URL")
}

// Source has the tokens for one server. It is safe for concurrent use.
type Source struct {
	o      Options
	server string // the URL of the server, as in grants
	http   *http.Client

	grant atomic.Pointer[tokens.Grant] // nil before it was read, and without a sign-in
	read  atomic.Bool                  // the store was read

	// turn has one element. The goroutine that has taken it may change the fields below
	// and the grant.
	turn   chan struct{}
	asked  map[string]bool // the scopes that sign-ins of this process have asked for
	failed error           // the end of the last sign-in
	until  time.Time       // the end of the pause after it
}

// New returns a Source.
func New(o Options) *Source {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Now == nil {
		o.Now = clock.Now
	}
	server := *o.Server
	server.Fragment, server.RawFragment = "", ""
	s := &Source{o: o, server: server.String(), http: newHTTPClient(), turn: make(chan struct{}, 1), asked: make(map[string]bool)}
	s.turn <- struct{}{}
	return s
}

// SignedOutError means that there is no token, and that only a person can change that.
type SignedOutError struct{ Reason string }

func (e *SignedOutError) Error() string { return e.Reason }

// storeError means that the stored tokens must not or cannot be used.
type storeError struct{ error }

// errNone is the SignedOutError of a start without tokens.
var errNone = &SignedOutError{Reason: "nobody has signed in"}

// Current returns the token to send, and the id of the sign-in that it comes from. Both
// are "" if nobody has signed in. It renews a token that ends. The error is temporary.
func (s *Source) Current(ctx context.Context) (token, grant string, err error) {
	g := s.grant.Load()
	if g == nil && s.read.Load() {
		return "", "", nil
	}
	old := g
	if g == nil || s.ends(g) {
		g, err = s.renew(ctx, "")
	}
	var out *SignedOutError
	var unusable *storeError
	switch {
	case errors.As(err, &out), errors.As(err, &unusable): // SignIn explains it, if the server requires a token
		return "", "", nil
	case err != nil && old != nil && s.o.Now().Before(old.Expires):
		return old.AccessToken, old.ID, nil
	case err != nil:
		return "", "", err
	}
	return g.AccessToken, g.ID, nil
}

// ends reports whether it is time to renew a token.
func (s *Source) ends(g *tokens.Grant) bool {
	return !g.Renew.IsZero() && g.RefreshToken != "" && !s.o.Now().Before(g.Renew)
}

// Refresh gets another token than the one that the server has refused, without a person.
// The error is a *SignedOutError if that is impossible.
func (s *Source) Refresh(ctx context.Context, refused string) error {
	_, err := s.renew(ctx, refused)
	return err
}

// renew returns a grant with another token than the refused one. Without a refused one,
// the stored grant is good as long as it has not ended.
func (s *Source) renew(ctx context.Context, refused string) (*tokens.Grant, error) {
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.give()
	return s.renewInTurn(ctx, refused)
}

// take waits for the turn.
func (s *Source) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) give() { s.turn <- struct{}{} }

// good reports whether a grant can be used by its own account.
func (s *Source) good(g *tokens.Grant, refused string) bool {
	return g != nil && g.AccessToken != refused && !s.ends(g)
}

func (s *Source) renewInTurn(ctx context.Context, refused string) (*tokens.Grant, error) {
	if g := s.grant.Load(); s.good(g, refused) {
		return g, nil
	}
	if g, good, err := s.reload(refused); err != nil || good {
		return g, err
	}
	unlock, err := s.o.Store.Lock(ctx, s.server, func() {})
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.refreshLocked(ctx, refused)
}

// load reads the stored grant. One that could not be stored stays in memory.
func (s *Source) load() error {
	g, err := s.o.Store.Load(s.server)
	if err != nil {
		return &storeError{err}
	}
	if g != nil {
		s.grant.Store(g)
	}
	s.read.Store(true)
	return nil
}

// reload reads the stored grant again, because another program may have changed it. good
// reports whether the grant can be used, instead of being renewed. The error is a
// *SignedOutError if there is no grant that can be used or renewed.
func (s *Source) reload(refused string) (g *tokens.Grant, good bool, err error) {
	if err := s.load(); err != nil {
		return nil, false, err
	}
	g = s.grant.Load()
	switch {
	case s.good(g, refused):
		return g, true, nil
	case g == nil:
		return nil, false, errNone
	case g.RefreshToken == "":
		return nil, false, &SignedOutError{Reason: "the sign-in has ended"}
	}
	return g, false, nil
}

// refreshLocked uses the refresh token, unless another program has done so. The caller
// has the lock.
func (s *Source) refreshLocked(ctx context.Context, refused string) (*tokens.Grant, error) {
	g, good, err := s.reload(refused)
	if err != nil || good {
		return g, err
	}
	next, err := s.refresh(ctx, g)
	var refusal *RefusalError
	if errors.As(err, &refusal) {
		if gone := s.o.Store.Delete(s.server); gone != nil {
			s.o.Say("the tokens that have ended could not be deleted: %v", gone)
		}
		s.grant.Store(nil)
		return nil, &SignedOutError{Reason: "the sign-in has ended: " + refusal.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("renew the token: %w", err)
	}
	s.keep(next)
	return next, nil
}

// keep makes a grant the current one, and stores it.
func (s *Source) keep(g *tokens.Grant) (place string) {
	s.grant.Store(g)
	s.read.Store(true)
	place, err := s.o.Store.Save(g)
	if err != nil {
		s.o.Say("the tokens could not be kept, so the next start needs a new sign-in: %v", err)
	}
	return place
}
