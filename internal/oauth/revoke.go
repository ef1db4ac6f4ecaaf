package oauth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// RevokeToken revokes the grant of a token at the request of its client (RFC 7009).
// Unknown tokens and tokens of other clients are no error.
func (s *Service) RevokeToken(ctx context.Context, c Client, secret string) error {
	t, g, err := s.find(ctx, secret)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && (g.Client != c.ID || g.Server != c.Server) {
		return nil
	}
	if err != nil {
		return err
	}
	if t.Kind == keys.Access {
		return s.o.Keys.DeleteTokens(ctx, c.Actor, []string{t.ID})
	}
	return s.end(ctx, c.Actor, g.ID, "the client revoked it")
}

// find returns the token with the secret, and its grant. Errors: ledger.ErrNotFound.
func (s *Service) find(ctx context.Context, secret string) (t Token, g Grant, err error) {
	digest, err := s.o.Secrets().Parse(secret)
	if err != nil {
		return t, g, ledger.ErrNotFound
	}
	err = s.store.View(ctx, func(tx Tx) error {
		if t, err = tx.Token(digest); err != nil {
			return err
		}
		g, err = tx.Grant(t.Grant)
		return err
	})
	return t, g, err
}

// RevokedBy is the beginning of the reason of a grant that somebody revoked. The actor
// follows.
const RevokedBy = "revoked by "

// RevokeGrant revokes a grant and deletes its tokens. After it has returned without an
// error, no lookup accepts a token of the grant. Revoking a revoked grant is not an
// error. Errors: an *admin.Error with the code NotFound.
func (s *Service) RevokeGrant(ctx context.Context, actor admin.Actor, id string) (Grant, error) {
	if err := s.end(ctx, actor, id, RevokedBy+actor.Name); err != nil {
		if errors.Is(err, ledger.ErrNotFound) {
			return Grant{}, noGrant(id)
		}
		return Grant{}, err
	}
	return s.Grant(ctx, id)
}

func noGrant(id string) error {
	return &admin.Error{Code: admin.NotFound, Message: "there is no grant " + id}
}

// Grant returns the grant with the id. Errors: an *admin.Error with the code NotFound.
func (s *Service) Grant(ctx context.Context, id string) (g Grant, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		g, err = tx.Grant(id)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		err = noGrant(id)
	}
	return g, err
}

// Grants lists the grants that match the query, newest first. The cursor is "" on the
// last page.
func (s *Service) Grants(ctx context.Context, q GrantQuery) (list []Grant, next string, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		list, next, err = tx.Grants(ctx, q)
		return err
	})
	return list, next, err
}

// revoke marks a grant as revoked, unless it is marked already.
func (s *Service) revoke(tx Tx, actor admin.Actor, id, reason string) error {
	g, err := tx.Grant(id)
	if err != nil || !g.RevokedAt.IsZero() {
		return err
	}
	g.RevokedAt, g.Reason = s.o.Now(), reason
	if err := tx.UpdateGrant(&g); err != nil {
		return err
	}
	return tx.Audit(s.audit(actor, "grant.revoke", g.ID, map[string]string{"reason": reason}))
}

// end revokes a grant, and deletes its tokens one by one. If it fails in between, the
// grant is revoked already: no new tokens are issued, and Sweep deletes the others.
func (s *Service) end(ctx context.Context, actor admin.Actor, id, reason string) error {
	err := s.store.Change(ctx, func(tx Tx) error { return s.revoke(tx, actor, id, reason) })
	if err != nil {
		return err
	}
	return s.endTokens(ctx, actor, id)
}

// finish deletes the tokens of a grant that was just revoked, even if the client that
// caused the revocation hangs up. It returns the refusal, together with a failure.
func (s *Service) finish(ctx context.Context, actor admin.Actor, id string, refusal error) error {
	return errors.Join(refusal, s.endTokens(context.WithoutCancel(ctx), actor, id))
}

// endTokens deletes the tokens of a revoked grant, and then records that this was done.
func (s *Service) endTokens(ctx context.Context, actor admin.Actor, id string) error {
	g, err := s.Grant(ctx, id)
	if err != nil || !g.EndedAt.IsZero() {
		return err
	}
	if err := s.deleteTokens(ctx, actor, id); err != nil {
		return err
	}
	return s.store.Change(ctx, func(tx Tx) error {
		if g, err = tx.Grant(id); err != nil || !g.EndedAt.IsZero() {
			return err
		}
		g.EndedAt = s.o.Now()
		return tx.UpdateGrant(&g)
	})
}

// tokensAtOnce bounds the tokens that one query reads.
const tokensAtOnce = 100

// deleteTokens deletes the tokens of a grant that have not expired.
func (s *Service) deleteTokens(ctx context.Context, actor admin.Actor, grant string) error {
	for after := ""; ; {
		var list []Token
		err := s.store.View(ctx, func(tx Tx) (err error) {
			list, err = tx.Tokens(grant, after, tokensAtOnce)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		var live []string
		for i := range list {
			if after = list[i].ID; s.o.Now().Before(list[i].ExpiresAt.Add(time.Hour)) { // an hour for differing clocks
				live = append(live, list[i].ID)
			}
		}
		if err := s.o.Keys.DeleteTokens(ctx, actor, live); err != nil {
			return err
		}
	}
}

// EndGrantsOfKey revokes the grants that the agent key has given and could not give any
// more, because the key was deleted, disabled, rotated or narrowed.
func (s *Service) EndGrantsOfKey(ctx context.Context, actor admin.Actor, k *keys.Key) error {
	return s.endAll(ctx, actor, GrantQuery{Key: k.ID}, "the key that gave the grant was deleted, disabled, rotated or changed",
		func(g *Grant) bool { return !g.RevokedAt.IsZero() || s.permits(k, g) != nil })
}

// EndGrantsOfPersonExcept revokes the grants that the person has given, except those at the
// expense of the given accounts.
func (s *Service) EndGrantsOfPersonExcept(ctx context.Context, actor admin.Actor, person string, accounts []string) error {
	return s.endAll(ctx, actor, GrantQuery{Person: person}, lostRight, func(g *Grant) bool { return !slices.Contains(accounts, g.Account) })
}

// lostRight is the reason why a grant of a person ends.
const lostRight = "the person that gave the grant may not give it any more"

// endAll revokes the grants that match the query and the function. A grant that has
// ended completely costs nothing.
func (s *Service) endAll(ctx context.Context, actor admin.Actor, q GrantQuery, reason string, match func(*Grant) bool) error {
	q.Limit = tokensAtOnce
	for {
		list, next, err := s.Grants(ctx, q)
		if err != nil {
			return err
		}
		for i := range list {
			if !list[i].EndedAt.IsZero() || !match(&list[i]) {
				continue
			}
			if err := s.end(ctx, actor, list[i].ID, reason); err != nil {
				return err
			}
		}
		if q.After = next; next == "" {
			return nil
		}
	}
}

// Sweep ends the grants of keys that have ended, finishes revocations that broke off, and
// deletes rows that are not needed any more. Call it at the start and now and then. It
// can run on several nodes at once.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.o.Now()
	err := s.store.Change(ctx, func(tx Tx) error {
		_, codes := tx.DeleteAuthorizationsBefore(now.Add(-ReplayTime))
		_, seeds := tx.ForgetSeeds(now.Add(-ReuseTime))
		_, tokens := tx.DeleteTokensBefore(now.Add(-ForgetTime), sweepAtOnce)
		return errors.Join(codes, seeds, tokens)
	})
	return errors.Join(err, s.sweep(ctx, Tx.Orphans, "the key that gave the grant has ended"), s.sweep(ctx, Tx.Unfinished, ""), s.checkSome(ctx))
}

// checkSome ends those of the next live grants that their keys could not give any more, and
// those that have not been used for so long that all tokens have expired. The first kind
// exists if a process was killed after it had narrowed a key. One call checks few grants,
// because it may run on several nodes every few seconds.
func (s *Service) checkSome(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, next, err := s.Grants(ctx, GrantQuery{Page: ledger.Page{Limit: sweepAtOnce, After: s.next}, Live: s.o.Now()})
	if err != nil {
		return err
	}
	for i := range list {
		if err := s.confirm(ctx, sweeper, &list[i]); err != nil && CodeOf(err) != InvalidGrant {
			return err
		}
		if err := s.endUnused(ctx, &list[i]); err != nil {
			return err
		}
	}
	s.next = next
	return nil
}

// settleTime is how long a new grant may have no tokens: its code or device code waits for
// the client.
const settleTime = 24 * time.Hour

// endUnused ends a grant if all its tokens have expired.
func (s *Service) endUnused(ctx context.Context, g *Grant) error {
	now := s.o.Now()
	if now.Before(g.CreatedAt.Add(settleTime)) {
		return nil
	}
	var used bool
	err := s.store.View(ctx, func(tx Tx) (err error) {
		used, err = tx.HasTokens(g.ID, now)
		return err
	})
	if err != nil || used {
		return err
	}
	return s.end(ctx, sweeper, g.ID, "all its tokens have expired")
}

// sweeper is the actor of Sweep in the audit log.
var sweeper = admin.Actor{Name: "oauth"}

// sweepAtOnce bounds the rows that one step of Sweep handles.
const sweepAtOnce = 100

// sweep ends the grants that list returns, until list returns none.
func (s *Service) sweep(ctx context.Context, list func(Tx, int) ([]Grant, error), reason string) error {
	for {
		var grants []Grant
		err := s.store.View(ctx, func(tx Tx) (err error) {
			grants, err = list(tx, sweepAtOnce)
			return err
		})
		if err != nil || len(grants) == 0 {
			return err
		}
		for i := range grants {
			if err := s.end(ctx, sweeper, grants[i].ID, reason); err != nil {
				return err
			}
		}
	}
}
