package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Key returns the key of that id.
func (s *Service) Key(ctx context.Context, id string) (keys.Key, error) {
	k, err := s.store.Key(ctx, id)
	return k, explain(err, "key", id)
}

// ViewKey returns the view of a key, with the secret if it is not "".
func (s *Service) ViewKey(ctx context.Context, k keys.Key, secret string) KeyView {
	names, _ := s.names(ctx, k.Account) // without names rather than not at all: the secret is shown only once
	return viewKey(k, names, secret, s.now())
}

// KeyQuery chooses keys to list. An empty field matches all.
type KeyQuery struct {
	ledger.Page
	Account string // only those of this account, by name or id
	Kind    string // only those of this kind
	// Expiring is a Go duration: only those that can be used now and expire
	// within it.
	Expiring string
}

// Keys lists the keys that the query chooses, in the order of their creation.
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
	}
	names, err := s.names(ctx, ids...)
	if err != nil {
		return List[KeyView]{}, err
	}
	now := s.now()
	return ViewList(rows, next, func(k keys.Key) KeyView { return viewKey(k, names, "", now) }), nil
}

// keyFilter returns what a store chooses by.
func (s *Service) keyFilter(ctx context.Context, q *KeyQuery) (ledger.KeyFilter, error) {
	f := ledger.KeyFilter{Page: q.Page, Kind: q.Kind}
	if q.Kind != "" {
		if _, err := keys.ParseKind(q.Kind); err != nil {
			return f, refuse(Invalid, "%v", err)
		}
	}
	if q.Expiring != "" {
		d, err := time.ParseDuration(q.Expiring)
		if err != nil || d <= 0 {
			return f, refuse(Invalid, "expiring %q is not a time from now, such as 336h", q.Expiring)
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

// KeyChange says what of a key to change; what is nil stays.
type KeyChange struct {
	Name    *string   `json:"name,omitempty"`
	Scopes  *[]string `json:"scopes,omitempty"`
	Servers *[]string `json:"servers,omitempty"` // empty: all
	// ExpiresIn is a Go duration from now, or "never".
	ExpiresIn *string `json:"expires_in,omitempty"`
	Caps      *Caps   `json:"caps,omitempty"`
	Rate      *string `json:"rate,omitempty"` // as keys.ParseRate reads it; "none" takes it away
	// Force lets Servers have names that the config does not have yet.
	Force bool `json:"force,omitempty"`
}

// Never is the ExpiresIn of a key that does not expire.
const Never = "never"

// UpdateKey changes a key. When it returns, no lookup that begins afterwards
// accepts more than the key is allowed then.
func (s *Service) UpdateKey(ctx context.Context, actor Actor, id string, c KeyChange) (keys.Key, error) {
	asked := c
	asked.Force = false
	switch {
	case asked == (KeyChange{}), asked == (KeyChange{Caps: c.Caps}) && *c.Caps == (Caps{}):
		return keys.Key{}, refuse(Invalid, "nothing to change: give name, scopes, servers, caps, rate or expires_in, and not null")
	case c.ExpiresIn != nil && *c.ExpiresIn == "":
		return keys.Key{}, refuse(Invalid, "expiry \"\" is not a time from now, such as 90d or 12h, nor never")
	}
	return s.change(ctx, actor, "key.update", id, c, func(k *keys.Key) error {
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

// checkChange refuses a key that was changed to what it cannot be.
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

// DisableKey makes a key be refused until it is enabled again.
func (s *Service) DisableKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.disable", id, nothing, func(k *keys.Key) error {
		if !k.DisabledAt.IsZero() {
			return errUnchanged
		}
		k.DisabledAt = s.now()
		return nil
	})
}

// EnableKey takes a DisableKey back.
func (s *Service) EnableKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.enable", id, nothing, func(k *keys.Key) error {
		if k.DisabledAt.IsZero() {
			return errUnchanged
		}
		k.DisabledAt = time.Time{}
		return nil
	})
}

// DeleteKey ends a key, for ever. When it returns without an error, no lookup
// that begins afterwards accepts the key. Deleting a deleted key is not an
// error and changes nothing.
func (s *Service) DeleteKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	return s.change(ctx, actor, "key.delete", id, nothing, func(k *keys.Key) error {
		if !k.DeletedAt.IsZero() {
			return errUnchanged
		}
		k.DeletedAt = s.now()
		return nil
	})
}

// nothing is the audit's detail of what needs no more than its name.
var nothing = struct{}{}

// errUnchanged stops a change that would change nothing, so that it leaves no
// row in the audit either.
var errUnchanged = errors.New("nothing to change")

// change alters a key in one transaction with its audit row, and then makes
// caches forget it: also when it is not known whether the change was made.
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
		return seen, nil
	}
	if err != nil {
		return keys.Key{}, explain(err, "key", id)
	}
	return changed, nil
}

// Rotation says how to replace a key.
type Rotation struct {
	// Grace is how long the old key lives on, a Go duration; "" or "0s" ends
	// it at once.
	Grace string `json:"grace,omitempty"`
	// ExpiresIn is how long the successor lives, a Go duration or "never"; ""
	// ends it when the old key would have ended.
	ExpiresIn string `json:"expires_in,omitempty"`
}

// maxRotations bounds how often a rotation begins anew because the key was
// changed meanwhile.
const maxRotations = 10

// RotateKey makes a successor with the rights of the key, and returns it with
// its secret. Unless asked otherwise, it ends when the old key would have ended.
// The old key expires after the grace, or earlier if it would have, and for
// good: it cannot be rotated again or given more time. Credits belong to the account
// and limits to the lineage, so a rotation doubles and resets nothing.
func (s *Service) RotateKey(ctx context.Context, actor Actor, id string, r Rotation) (keys.Key, string, error) {
	grace := time.Duration(0)
	if r.Grace != "" {
		var err error
		if grace, err = time.ParseDuration(r.Grace); err != nil || grace < 0 {
			return keys.Key{}, "", refuse(Invalid, "grace %q is not a time, such as 24h; 0s ends the old key at once", r.Grace)
		}
	}
	for range maxRotations {
		old, err := s.Key(ctx, id)
		if err != nil {
			return keys.Key{}, "", err
		}
		successor, secret := s.successor(&old)
		if r.ExpiresIn != "" {
			if successor.ExpiresAt, err = s.expiry(s.now(), old.Kind, r.ExpiresIn); err != nil {
				return keys.Key{}, "", err
			}
		}
		_, err = s.store.ReplaceKey(ctx, id, func(k *keys.Key) error {
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
		return successor, secret, nil
	}
	return keys.Key{}, "", refuse(Conflict, "key %q is being changed over and over: try again", id)
}

var errChanged = errors.New("the key was changed meanwhile")

// retire ends the old key after its grace. What the successor was made from
// must still hold, or it could have rights that were just taken away.
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

// AuditLog lists the audit, newest first.
func (s *Service) AuditLog(ctx context.Context, p ledger.Page) ([]ledger.Audit, string, error) {
	return s.store.AuditLog(ctx, p)
}
