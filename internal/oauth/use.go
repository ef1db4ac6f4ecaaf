package oauth

import (
	"context"
	"net/url"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// latestTokens bounds the tokens that LastUses reads for a grant. Clients use the tokens
// that they got last, so the latest tokens have the latest use.
const latestTokens = 8

// LastUses returns the time of the latest use of each grant, by the grant's id. It leaves
// out grants that were never used. The time is as exact as the last use of keys, which is
// written now and then.
func (s *Service) LastUses(ctx context.Context, grants []Grant) (map[string]time.Time, error) {
	var tokens []Token
	err := s.store.View(ctx, func(tx Tx) error {
		tokens = nil
		for i := range grants {
			list, err := tx.LatestTokens(grants[i].ID, latestTokens)
			if err != nil {
				return err
			}
			tokens = append(tokens, list...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	uses := make(map[string]time.Time)
	for i := range tokens {
		used, err := s.lastUse(ctx, &tokens[i])
		if err != nil {
			return nil, err
		}
		if used.After(uses[tokens[i].Grant]) {
			uses[tokens[i].Grant] = used
		}
	}
	return uses, nil
}

// lastUse returns the time of the latest use of a token, or zero. The key of a token does
// not exist if issuing the token broke off.
func (s *Service) lastUse(ctx context.Context, t *Token) (time.Time, error) {
	if t.Kind != keys.Access {
		return t.UsedAt, nil
	}
	k, err := s.o.Keys.Key(ctx, t.ID)
	if isNotFound(err) {
		return time.Time{}, nil
	}
	return k.LastUsedAt, err
}

// GrantOf returns the grant of a token, by the digest of its secret. The error is
// ledger.ErrNotFound if there is no such token.
func (s *Service) GrantOf(ctx context.Context, d keys.Digest) (g Grant, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		t, err := tx.Token(d)
		if err == nil {
			g, err = tx.Grant(t.Grant)
		}
		return err
	})
	return g, err
}

// ClientHost returns the host that publishes the client's metadata, with a port if the
// client's id has one. It returns "" if the id of the client is not a URL.
func (g *Grant) ClientHost() string {
	u, err := url.Parse(g.Client)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}
