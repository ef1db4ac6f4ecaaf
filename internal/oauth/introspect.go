package oauth

import (
	"context"
	"errors"
	"strings"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Introspection describes a token (RFC 7662, section 2.2). Only Active is set for tokens
// that are not active, and for those of other clients.
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitempty"` // seconds since 1970
	Issued    int64  `json:"iat,omitempty"` // seconds since 1970
	Subject   string `json:"sub,omitempty"` // id of the account
	Audience  string `json:"aud,omitempty"` // the resource
	Issuer    string `json:"iss,omitempty"`
}

// Introspect describes a token of the client. The caller adds Audience and Issuer.
func (s *Service) Introspect(ctx context.Context, c Client, secret string) (Introspection, error) {
	t, g, err := s.find(ctx, secret)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && (g.Client != c.ID || g.Server != c.Server) {
		return Introspection{}, nil
	}
	if err != nil {
		return Introspection{}, err
	}
	k, err := s.o.Keys.Key(ctx, t.ID)
	if isNotFound(err) {
		return Introspection{}, nil
	}
	if err != nil {
		return Introspection{}, err
	}
	now := s.o.Now()
	if k.Check(now, keys.Use{}) != nil || !g.Live(now) || t.Kind == keys.Refresh && !t.UsedAt.IsZero() {
		return Introspection{}, nil
	}
	i := Introspection{
		Active: true, Scope: strings.Join(g.Scopes, " "), ClientID: g.Client, Expires: k.ExpiresAt.Unix(), Issued: k.CreatedAt.Unix(), Subject: g.Account,
	}
	if t.Kind == keys.Access {
		i.TokenType, i.Scope = "Bearer", strings.Join(k.Scopes, " ")
	}
	return i, nil
}
