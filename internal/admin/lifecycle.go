package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Key returns the key with the given id.
func (s *Service) Key(ctx context.Context, id string) (keys.Key, error) {
	k, err := s.store.Key(ctx, id)
	s.noteUse(&k)
	return k, explain(err, "key", id)
}

// ViewKey returns the view of a key, which includes the secret unless secret is "".
func (s *Service) ViewKey(ctx context.Context, k keys.Key, secret string) KeyView {
	names, _ := s.names(ctx, k.Account) // a view without names is better than no view, because the secret is shown only once
	return viewKey(k, names, secret, s.now())
}

// KeyQuery selects keys to list. An empty field matches all keys.
type KeyQuery struct {
	ledger.Page
	Account    string // name or id of the account
	Kind       string
	Expiring   string // a Go duration; selects usable keys that expire within it
	UsageSince string // since when calls are summed up, in the forms of ChargeQuery; "" for no sums
}

// Keys lists the keys that match the query, in order of creation.
func (s *Service) Keys(ctx context.Context, q KeyQuery) (List[KeyView], error) {
	f, err := s.keyFilter(ctx, &q)
	if err != nil {
		return List[KeyView]{}, err
	}
	rows, next, err := s.store.Keys(ctx, f)
	if err != nil {
		return List[KeyView]{}, err
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].Account
		s.noteUse(&rows[i])
	}
	names, err := s.names(ctx, ids...)
	if err != nil {
		return List[KeyView]{}, err
	}
	usage, err := s.keyUsage(ctx, rows, q.UsageSince)
	if err != nil {
		return List[KeyView]{}, err
	}
	now := s.now()
	return ViewList(rows, next, func(k keys.Key) KeyView {
		v := viewKey(k, names, "", now)
		if usage != nil {
			sums := usage[k.Lineage]
			v.Usage = &KeySumsView{Calls: sums.Calls, Refused: sums.Refused, Failed: sums.Failed, Charged: sums.Charged}
		}
		return v
	}), nil
}

// keyUsage returns the sums of the keys' lineages, all read at once. It returns nil if
// since is "".
func (s *Service) keyUsage(ctx context.Context, rows []keys.Key, since string) (map[string]ledger.UsageSums, error) {
	if since == "" {
		return nil, nil
	}
	from, err := s.Moment("usage_since", since)
	if err != nil {
		return nil, err
	}
	lineages := make([]string, len(rows))
	for i := range rows {
		lineages[i] = rows[i].Lineage
	}
	return s.store.KeyUsage(ctx, lineages, from)
}

// keyFilter returns the query as the filter for a store.
func (s *Service) keyFilter(ctx context.Context, q *KeyQuery) (ledger.KeyFilter, error) {
	f := ledger.KeyFilter{Page: q.Page, Kind: q.Kind}
	if q.Kind != "" {
		if _, err := keys.ParseKind(q.Kind); err != nil {
			return f, refuse(Invalid, "%v", err)
		}
	}
	if q.Expiring != "" {
		d, err := clock.ParseDuration(q.Expiring)
		if err != nil || d <= 0 {
			return f, refuse(Invalid, "expiring %q is not a time from now, such as 14d", q.Expiring)
		}
		f.ExpiresBy = s.now().Add(d)
	}
	if q.Account != "" {
		a, err := s.Account(ctx, q.Account)
		if err != nil {
			return f, err
		}
		f.Account = a.ID
	}
	return f, nil
}

// KeyChange changes a key. Nil fields remain unchanged.
type KeyChange struct {
	Name      *string   `json:"name,omitempty"`
	Scopes    *[]string `json:"scopes,omitempty" doc:"All scopes of the key from now on"`
	Servers   *[]string `json:"servers,omitempty" doc:"All servers that the key may call from now on; empty: any"`
	ExpiresIn *string   `json:"expires_in,omitempty" doc:"A time from now, such as 2160h, or never"`
	Caps      *Caps     `json:"caps,omitempty" doc:"On the spending of the key and its successors; a cap of zero removes the cap"`
	Rate      *string   `json:"rate,omitempty" doc:"A bound on the requests of the key and its successors, such as 60/1m burst 100; none removes it"`
	Force     bool      `json:"force,omitempty" doc:"Accept servers that the config does not have yet"`
}

// Never is the value of ExpiresIn for a key that does not expire.
const Never = "never"

// UpdateKey changes a key. After UpdateKey has returned, no new lookup accepts more
// than the changed key allows.
func (s *Service) UpdateKey(ctx context.Context, actor Actor, id string, c KeyChange) (keys.Key, error) {
	asked := c
	asked.Force = false
	switch {
	case asked == (KeyChange{}), asked == (KeyChange{Caps: c.Caps}) && *c.Caps == (Caps{}):
		return keys.Key{}, refuse(Invalid, "nothing to change: give name, scopes, servers, caps, rate or expires_in, and not null")
	case c.ExpiresIn != nil && *c.ExpiresIn == "":
		return keys.Key{}, refuseField("expires_in", "expiry \"\" is not a time from now, such as 90d or 12h, nor never")
	}
	return s.change(ctx, actor, "key.update", id, c, func(k *keys.Key) error {
		if err := refuseToken(k, "changed"); err != nil {
			return err
		}
		had := k.Servers
		if c.Name != nil {
			k.Name = *c.Name
		}
		if c.Scopes != nil {
			k.Scopes = *c.Scopes
		}
		if c.Servers != nil {
			k.Servers = *c.Servers
		}
		if c.ExpiresIn != nil {
			if k.Successor != "" {
				return refuse(Invalid, "key %q was rotated and is to end: change its successor %s", id, k.Successor)
			}
			var err error
			if k.ExpiresAt, err = s.expiry(s.now(), k.Kind, *c.ExpiresIn); err != nil {
				return err
			}
		}
		if err := limitKey(k, c.Caps, c.Rate); err != nil {
			return err
		}
		if err := s.checkChange(k, c); err != nil || c.Servers == nil {
			return err
		}
		return s.checkServers(k.Servers, had, c.Force)
	})
}

// checkChange refuses a change that is not allowed for a key of this kind.
func (s *Service) checkChange(k *keys.Key, c KeyChange) error {
	if err := checkRights(k); err != nil {
		return err
	}
	if c.Name != nil {
		if err := checkName(k); err != nil {
			return err
		}
	}
	if c.Scopes != nil {
		return s.checkScopes(k)
	}
	return nil
}

// DisableKey disables a key until it is enabled again.
func (s *Service) DisableKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.disable", id, nothing, func(k *keys.Key) error {
		if !k.DisabledAt.IsZero() {
			return errUnchanged
		}
		k.DisabledAt = s.now()
		return nil
	})
}

// EnableKey enables a disabled key.
func (s *Service) EnableKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.enable", id, nothing, func(k *keys.Key) error {
		if err := refuseToken(k, "enabled"); err != nil {
			return err
		}
		if k.DisabledAt.IsZero() {
			return errUnchanged
		}
		k.DisabledAt = time.Time{}
		return nil
	})
}

// DeleteKey deletes a key permanently. After DeleteKey has returned without an
// error, no new lookup accepts the key. Deleting a deleted key is not an error and
// changes nothing.
func (s *Service) DeleteKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.delete", id, nothing, func(k *keys.Key) error {
		if !k.DeletedAt.IsZero() {
			return errUnchanged
		}
		k.DeletedAt = s.now()
		return nil
	})
}

// nothing, the empty object, is the audit detail of an action without parameters.
var nothing = struct{}{}

// errUnchanged cancels a change that would have no effect, together with its audit
// row.
var errUnchanged = errors.New("nothing to change")

// change alters a key and writes the audit row in the same transaction. Afterwards it
// makes caches forget the key, even if the outcome of the transaction is unknown.
func (s *Service) change(ctx context.Context, actor Actor, action, id string, detail any, alter func(*keys.Key) error) (keys.Key, error) {
	var seen keys.Key
	changed, err := s.store.UpdateKey(ctx, id, func(k *keys.Key) error {
		seen = *k
		if !k.DeletedAt.IsZero() && action != "key.delete" {
			return refuse(Invalid, "key %q is deleted, and that is final: make a new one", id)
		}
		return alter(k)
	}, s.audit(actor, action, id, detail))
	if seen.ID != "" {
		s.revoke(seen.Digest)
	}
	if errors.Is(err, errUnchanged) {
		changed, err = seen, nil
	}
	if err != nil {
		return keys.Key{}, explain(err, "key", id)
	}
	// End the grants even if nothing was to change: an earlier call may have changed the
	// key and then failed to end them.
	return changed, s.endGrants(ctx, actor, &changed)
}

// Rotation is a request to replace a key.
type Rotation struct {
	Grace     string `json:"grace,omitempty" doc:"How long the old key stays valid, such as 24h; 0s or absent: it ends at once"`
	ExpiresIn string `json:"expires_in,omitempty" doc:"When the successor ends: a time from now, such as 2160h, or never; absent: when the old key would have ended"`
}

// maxRotations bounds how often a rotation is retried because the key was changed
// concurrently.
const maxRotations = 10

// RotateKey creates a successor with the same rights and returns it with its secret. By
// default the successor expires when the old key would have expired. The old key
// expires after the grace period, or at its former expiry if that is earlier. The old
// key cannot be rotated again or extended. Credits belong to the account and limits
// belong to the lineage, so a rotation neither doubles nor resets them.
func (s *Service) RotateKey(ctx context.Context, actor Actor, id string, r Rotation) (keys.Key, string, error) {
	grace := time.Duration(0)
	if r.Grace != "" {
		var err error
		if grace, err = clock.ParseDuration(r.Grace); err != nil || grace < 0 {
			return keys.Key{}, "", refuseField("grace", "grace %q is not a time, such as 24h; 0s ends the old key at once", r.Grace)
		}
	}
	for range maxRotations {
		old, err := s.Key(ctx, id)
		if err != nil {
			return keys.Key{}, "", err
		}
		if err := refuseToken(&old, "rotated"); err != nil {
			return keys.Key{}, "", err
		}
		successor, secret := s.successor(&old)
		if r.ExpiresIn != "" {
			if successor.ExpiresAt, err = s.expiry(s.now(), old.Kind, r.ExpiresIn); err != nil {
				return keys.Key{}, "", err
			}
		}
		retired, err := s.store.ReplaceKey(ctx, id, func(k *keys.Key) error {
			return s.retire(k, &old, &successor, grace)
		}, successor, s.audit(actor, "key.rotate", id, map[string]string{"successor": successor.ID, "grace": grace.String()}))
		s.revoke(old.Digest)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return keys.Key{}, "", explain(err, "key", id)
		}
		s.revoke(successor.Digest)
		// After a failure, return the secret nevertheless, because it cannot be shown again.
		// The next sweep ends the grants of keys that were rotated.
		_ = s.endGrants(ctx, actor, &retired)
		return successor, secret, nil
	}
	return keys.Key{}, "", refuse(Conflict, "key %q is being changed over and over: try again", id)
}

var errChanged = errors.New("the key was changed meanwhile")

// retire makes the old key k expire after the grace period. The successor was derived
// from read, an earlier state of k. If k has changed since then, retire fails.
// Otherwise the successor could keep rights that were just revoked.
func (s *Service) retire(k, read, successor *keys.Key, grace time.Duration) error {
	switch err := k.Check(s.now(), keys.Use{}); {
	case k.Successor != "":
		return refuse(Invalid, "key %q was rotated already: rotate its successor %s", k.ID, k.Successor)
	case errors.Is(err, keys.ErrDeleted):
		return refuse(Invalid, "key %q is deleted, and that is final: make a new one", k.ID)
	case errors.Is(err, keys.ErrDisabled):
		return refuse(Invalid, "key %q is disabled: enable it to rotate it", k.ID)
	case errors.Is(err, keys.ErrExpired):
		return refuse(Invalid, "key %q has expired: make a new one, or give it more time first", k.ID)
	case !slices.Equal(k.Scopes, read.Scopes) || !slices.Equal(k.Servers, read.Servers) || k.Name != read.Name || limitsOf(k) != limitsOf(read) || !k.ExpiresAt.Equal(read.ExpiresAt):
		return errChanged
	}
	if end := s.now().Add(grace); k.ExpiresAt.IsZero() || end.Before(k.ExpiresAt) {
		k.ExpiresAt = end
	}
	k.Successor = successor.ID
	return nil
}

func (s *Service) successor(old *keys.Key) (keys.Key, string) {
	form := s.settings().Secrets
	secret := form.Mint(old.Kind, old.Environment)
	k := keys.Key{
		ID: ids.New("key_"), Account: old.Account, Lineage: old.Lineage, Kind: old.Kind, Environment: old.Environment,
		Name: old.Name, Hint: form.Hint(secret), Digest: keys.DigestOf(secret),
		Scopes: old.Scopes, Servers: old.Servers, Limits: old.Limits, CreatedAt: s.now(), ExpiresAt: old.ExpiresAt,
	}
	return k, secret
}
