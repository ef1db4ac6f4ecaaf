package admin

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// NewKey says what key to make.
type NewKey struct {
	Account string   `json:"account"`           // name or id
	Kind    string   `json:"kind,omitempty"`    // agent if empty
	Name    string   `json:"name,omitempty"`    //
	Scopes  []string `json:"scopes,omitempty"`  //
	Servers []string `json:"servers,omitempty"` // empty: all
	Test    bool     `json:"test,omitempty"`    //
	// ExpiresIn is a Go duration from now; empty means never, and for personal
	// keys PersonalLife.
	ExpiresIn string `json:"expires_in,omitempty"`
}

// PersonalLife is how long personal keys live unless something else is asked.
const PersonalLife = 183 * 24 * time.Hour

// The bounds of what may be written into a key.
const (
	maxKeyName   = 128
	maxKeyScopes = 64
	maxServers   = 64
)

var (
	scopeForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)
	serverForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
)

// CreateKey makes a key and returns it with its secret, which nothing can show
// again.
func (s *Service) CreateKey(ctx context.Context, actor Actor, n NewKey) (keys.Key, string, error) {
	key, err := s.newKey(n)
	if err != nil {
		return keys.Key{}, "", err
	}
	account, err := s.Account(ctx, n.Account)
	if err != nil {
		return keys.Key{}, "", err
	}
	secret := keys.Mint(key.Kind, key.Environment)
	key.Account = account.ID
	key.Digest = keys.DigestOf(secret)
	key.Hint = keys.Hint(secret)
	if err := s.store.CreateKey(ctx, key, s.audit(actor, "key.create", key.ID, n)); err != nil {
		return keys.Key{}, "", explain(err, "account", n.Account)
	}
	s.revoke(key.Digest) // a cache may know that there is no such key
	return key, secret, nil
}

func (s *Service) newKey(n NewKey) (keys.Key, error) {
	now := s.now()
	key := keys.Key{
		ID: NewID("key_"), Kind: keys.Agent, Environment: keys.Live, Name: n.Name,
		Scopes: n.Scopes, Servers: n.Servers, CreatedAt: now,
	}
	key.Lineage = key.ID
	if n.Test {
		key.Environment = keys.Test
	}
	var err error
	if n.Kind != "" {
		if key.Kind, err = keys.ParseKind(n.Kind); err != nil {
			return key, refuse(Invalid, "%v", err)
		}
	}
	if key.ExpiresAt, err = expiry(now, key.Kind, n.ExpiresIn); err != nil {
		return key, err
	}
	return key, checkRights(&key)
}

func expiry(now time.Time, kind keys.Kind, in string) (time.Time, error) {
	switch {
	case in != "":
		d, err := time.ParseDuration(in)
		if err != nil || d <= 0 {
			return time.Time{}, refuse(Invalid, "expiry %q is not a time from now, such as 90d or 12h", in)
		}
		return now.Add(d), nil
	case kind == keys.Personal:
		return now.Add(PersonalLife), nil
	}
	return time.Time{}, nil
}

// checkRights refuses what a key of that kind cannot carry.
func checkRights(k *keys.Key) error {
	switch {
	case len(k.Name) > maxKeyName:
		return refuse(Invalid, "the name of a key has at most %d bytes", maxKeyName)
	case len(k.Scopes) > maxKeyScopes:
		return refuse(Invalid, "a key has at most %d scopes", maxKeyScopes)
	case len(k.Servers) > maxServers:
		return refuse(Invalid, "a key has at most %d servers", maxServers)
	}
	reserved := []string{keys.ScopeCharge, keys.ScopeLookup, keys.ScopeAdmin}
	if k.Kind != keys.Personal {
		reserved = append(reserved, keys.ScopeConnect)
	}
	for _, scope := range k.Scopes {
		switch {
		case slices.Contains(reserved, scope):
			return refuse(Invalid, "scope %q comes with a kind of key and cannot be given to a %s key: choose the kind with --kind", scope, k.Kind)
		case !scopeForm.MatchString(scope):
			return refuse(Invalid, "scope %q is not allowed: want 1 to 64 of a-z, 0-9, '_', '.', ':', '-'", scope)
		}
	}
	for _, server := range k.Servers {
		if !serverForm.MatchString(server) {
			return refuse(Invalid, "server %q is not allowed: want the name that its farebox directive gives", server)
		}
	}
	return nil
}

// DeleteKey ends a key, for ever. When it returns without an error, no lookup
// that begins afterwards accepts the key. Deleting a deleted key is not an
// error and changes nothing.
func (s *Service) DeleteKey(ctx context.Context, actor Actor, id string) (keys.Key, error) {
	now := s.now()
	key, err := s.store.UpdateKey(ctx, id, func(k *keys.Key) error {
		if !k.DeletedAt.IsZero() {
			return &unchanged{*k}
		}
		k.DeletedAt = now
		return nil
	}, s.audit(actor, "key.delete", id, struct{}{}))
	var same *unchanged
	if errors.As(err, &same) {
		key, err = same.key, nil
	}
	if err != nil {
		return keys.Key{}, explain(err, "key", id)
	}
	s.revoke(key.Digest)
	return key, nil
}

// unchanged stops an update that would change nothing.
type unchanged struct{ key keys.Key }

func (*unchanged) Error() string { return "nothing to change" }

func (s *Service) revoke(d keys.Digest) {
	if s.revoker != nil {
		s.revoker.Revoke(d)
	}
}
