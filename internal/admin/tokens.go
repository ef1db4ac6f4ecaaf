package admin

import (
	"context"
	"errors"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// GrantEnder ends the OAuth grants that depend on a key.
type GrantEnder interface {
	// EndGrantsOfKey ends the grants that the key has given and could not give as it is
	// now. After it has returned without an error, no lookup accepts a token of these
	// grants.
	EndGrantsOfKey(ctx context.Context, actor Actor, k *keys.Key) error
}

// WithGrants makes changes of a key end the grants that the key has given and could not
// give any more. It returns the service. Call it before the service is used.
func (s *Service) WithGrants(g GrantEnder) *Service {
	s.grants = g
	return s
}

// endGrants ends the grants that the changed key has given and could not give any more.
// It goes on if the caller gives up, because the change of the key was made.
func (s *Service) endGrants(ctx context.Context, actor Actor, k *keys.Key) error {
	if rules := k.Kind.Rules(); s.grants == nil || !rules.Pays || rules.Token != "" {
		return nil
	}
	return s.grants.EndGrantsOfKey(context.WithoutCancel(ctx), actor, k)
}

// IssueToken stores a token of an OAuth grant as a key. It does nothing if a key with the
// same id exists, because two processes may issue the same token. It does not make caches
// forget the token, which would wait for all nodes: nobody has the secret before, so no
// cache can have remembered the token as unknown.
func (s *Service) IssueToken(ctx context.Context, actor Actor, k keys.Key) error {
	if k.Kind.Rules().Token == "" {
		return refuse(Invalid, "a key of kind %s is no token", k.Kind)
	}
	err := s.store.CreateKey(ctx, k, s.audit(actor, "token.issue", k.ID, map[string]string{"kind": k.Kind.String(), "lineage": k.Lineage, "account": k.Account}))
	if errors.Is(err, ledger.ErrConflict) {
		return nil
	}
	return explain(err, "account", k.Account)
}

// DeleteTokens deletes tokens, so that no lookup accepts them afterwards. It does nothing
// for a token that does not exist or was deleted before.
func (s *Service) DeleteTokens(ctx context.Context, actor Actor, ids []string) error {
	var digests []keys.Digest
	// Make caches forget the tokens after all of them were changed, because each call may
	// wait for other nodes. Do so even after an error.
	defer func() { s.revokeEach(digests) }()
	for _, id := range ids {
		_, err := s.store.UpdateKey(ctx, id, func(k *keys.Key) error {
			if k.Kind.Rules().Token == "" {
				return refuse(Invalid, "key %q is no token", id)
			}
			digests = append(digests, k.Digest)
			if !k.DeletedAt.IsZero() {
				return errUnchanged
			}
			k.DeletedAt = s.now()
			return nil
		}, s.audit(actor, "key.delete", id, nothing))
		if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, ledger.ErrNotFound) {
			return explain(err, "key", id)
		}
	}
	return nil
}

// revokeEach makes caches forget the keys, at once if the revoker can do so.
func (s *Service) revokeEach(digests []keys.Digest) {
	if r, ok := s.revoker.(interface{ RevokeEach([]keys.Digest) }); ok && len(digests) > 0 {
		r.RevokeEach(digests)
		return
	}
	for _, d := range digests {
		s.revoke(d)
	}
}

// refuseToken returns an error if the key is a token, which follows its grant.
func refuseToken(k *keys.Key, action string) error {
	if k.Kind.Rules().Token == "" {
		return nil
	}
	return refuse(Invalid, "key %q is a token of an OAuth client, and cannot be %s: a token follows its grant", k.ID, action)
}
