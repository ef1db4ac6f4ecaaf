package bridge

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Tokens gets tokens for a bridge that was given none. It is safe for concurrent use.
type Tokens interface {
	// Current returns the token to send, and the id of the sign-in that it comes from.
	// Both are "" if nobody has signed in. The error is temporary.
	Current(ctx context.Context) (token, grant string, err error)
	// Refresh gets another token than the one that the server has refused, without a
	// person.
	Refresh(ctx context.Context, refused string) error
	// SignIn does so with a person, if it must. challenge has the refusal's
	// WWW-Authenticate headers. The error advises the person.
	SignIn(ctx context.Context, refused string, challenge []string) error
}

// fixed is the token that a bridge was given.
type fixed string

var errFixed = errors.New("the token is a given one")

func (f fixed) Current(context.Context) (token, grant string, err error) { return string(f), "", nil }
func (fixed) Refresh(context.Context, string) error                      { return errFixed }
func (fixed) SignIn(context.Context, string, []string) error             { return errFixed }

// maxTokens bounds the tokens with which one request is sent in turn: one that has ended,
// its successor, and one with further scopes.
const maxTokens = 3

// token returns the token to send, and hides it in the notes from then on.
func (b *Bridge) token(ctx context.Context) (token, grant string, err error) {
	token, grant, err = b.tokens.Current(ctx)
	b.notes.keepSecret(token)
	return token, grant, err
}

// signsIn reports whether the bridge has tokens of a person's sign-in, and no given one.
func (b *Bridge) signsIn() bool {
	_, given := b.tokens.(fixed)
	return !given
}

// tokenRefusal is a response that asks for another token.
type tokenRefusal struct {
	challenge []string // its WWW-Authenticate headers
	scope     bool     // the token is good, and lacks a scope
}

// refusalIn returns the refusal of the token in a response, or nil.
func refusalIn(resp *http.Response) *tokenRefusal {
	challenge := resp.Header.Values("WWW-Authenticate")
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return &tokenRefusal{challenge: challenge}
	case resp.StatusCode == http.StatusForbidden && strings.Contains(strings.Join(challenge, " "), "insufficient_scope"):
		return &tokenRefusal{challenge: challenge, scope: true} // RFC 6750, section 3.1
	}
	return nil
}

// authorized sends a request that nobody waits for, so it must not ask a person to sign
// in. If its token is refused, it is sent again with the next one, once.
func (b *Bridge) authorized(ctx context.Context, send func(token string) (*http.Response, error)) (*http.Response, error) {
	for again := true; ; again = false {
		token, _, err := b.token(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := send(token)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !again || b.tokens.Refresh(ctx, token) != nil {
			return resp, err
		}
		_ = resp.Body.Close()
	}
}

// maxSecrets bounds the tokens that the notes hide. Earlier ones have ended.
const maxSecrets = 8

// keepSecret lets the notes hide a token.
func (n *notes) keepSecret(token string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if token == "" || slices.Contains(n.secrets, token) {
		return
	}
	n.secrets = append(n.secrets, token)
	if len(n.secrets) > maxSecrets {
		n.secrets = n.secrets[1:]
	}
}
