package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/tokens"
)

// SignIn gets another token than the one that the server has refused, by a refresh or
// with a person at a browser. challenge has the WWW-Authenticate headers of the refusal.
// If they ask for scopes that the token does not have (RFC 6750, insufficient_scope),
// the person is asked for these too. The error advises the person.
//
// A sign-in goes on if ctx ends, because clients wait for less time than people need.
func (s *Source) SignIn(ctx context.Context, refused string, challenge []string) error {
	c := readChallenge(challenge)
	if err := s.take(ctx); err != nil {
		return err
	}
	if !c.lacksScope() || s.grant.Load() == nil || s.grant.Load().AccessToken != refused {
		g, err := s.renewInTurn(ctx, refused)
		var out *SignedOutError
		if err == nil && g != nil || !errors.As(err, &out) {
			s.give()
			return err
		}
	}
	if s.failed != nil && s.o.Now().Before(s.until) {
		defer s.give()
		return s.failed
	}
	done := make(chan error, 1)
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Patience)
	go func() {
		defer cancel()
		defer s.give()
		_, err := s.signInLocked(detached, refused, c)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Start signs in although the server has refused nothing, and returns the place of the
// tokens. It is for people at a terminal.
func (s *Source) Start(ctx context.Context) (place string, err error) {
	challenge, err := s.probe(ctx)
	if err != nil {
		return "", err
	}
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer s.give()
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	if err := s.load(); err != nil {
		return "", err
	}
	refused := ""
	if g := s.grant.Load(); g != nil {
		refused = g.AccessToken
	}
	return s.signInLocked(ctx, refused, challenge)
}

// End deletes the tokens, and revokes them if their issuer can be reached. found is false
// if nobody has signed in.
func (s *Source) End(ctx context.Context) (found bool, err error) {
	unlock, err := s.o.Store.Lock(ctx, s.server, func() { s.o.Say("another program uses these tokens; waiting for it") })
	if err != nil {
		return false, err
	}
	defer unlock()
	g, unusable := s.o.Store.Load(s.server)
	if err := s.o.Store.Delete(s.server); err != nil {
		return false, err
	}
	switch {
	case unusable != nil:
		return true, fmt.Errorf("the tokens were deleted and could not be revoked: %w", unusable)
	case g == nil:
		return false, nil
	}
	if err := s.revoke(ctx, g); err != nil {
		return true, fmt.Errorf("the tokens were deleted from this machine, but not revoked: %w", err)
	}
	return true, nil
}

// signInLocked waits for other programs, and signs in unless one of them has done so.
func (s *Source) signInLocked(ctx context.Context, refused string, c challenge) (place string, err error) {
	unlock, err := s.o.Store.Lock(ctx, s.server, func() {
		s.o.Say("another program signs in at %s; waiting for it", s.shown())
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := s.load(); err != nil {
		return "", err
	}
	old := s.grant.Load()
	if s.good(old, refused) { // another program was faster
		return "", nil
	}
	wanted := s.union(old, c)
	if c.lacksScope() && s.wasAsked(wanted) {
		return "", &SignedOutError{Reason: "the server asks for more rights than its authorization server has granted"}
	}
	opened, g, err := s.authorize(ctx, c, wanted)
	if err != nil {
		if opened {
			s.failed, s.until = err, s.o.Now().Add(pause)
		}
		return "", err
	}
	for _, scope := range wanted {
		s.asked[scope] = true
	}
	s.failed = nil
	place = s.keep(g)
	if old != nil {
		s.revokeOld(ctx, old)
	}
	return place, nil
}

// union returns the scopes of a challenge and those of an earlier grant. It is nil if the
// challenge names none: then the metadata say which scopes to ask for.
func (s *Source) union(old *tokens.Grant, c challenge) []string {
	wanted := slices.Clone(c.scopes)
	if len(wanted) == 0 {
		return nil
	}
	if old != nil && c.lacksScope() {
		for _, scope := range old.Scopes {
			if !slices.Contains(wanted, scope) {
				wanted = append(wanted, scope)
			}
		}
	}
	return wanted
}

// wasAsked reports whether a sign-in of this process has asked for all these scopes.
func (s *Source) wasAsked(scopes []string) bool {
	for _, scope := range scopes {
		if !s.asked[scope] {
			return false
		}
	}
	return true
}

// revokeTime bounds the end of an earlier grant.
const revokeTime = 10 * time.Second

// revokeOld ends a grant that a new one has replaced. It ends by itself later, too.
func (s *Source) revokeOld(ctx context.Context, old *tokens.Grant) {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	_ = s.revoke(ctx, old)
}
