package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// NewKey describes a key to create.
type NewKey struct {
	Account   string   `json:"account" doc:"The name or the id of the account"`
	Kind      string   `json:"kind,omitempty" doc:"agent, provider, gateway, personal or admin; agent if absent"`
	Name      string   `json:"name,omitempty" doc:"Personal keys need one, such as laptop"`
	Scopes    []string `json:"scopes,omitempty" doc:"Declared scopes; absent: none, and for personal keys the default ones"`
	Servers   []string `json:"servers,omitempty" doc:"The servers that the key may call; absent: all"`
	Test      bool     `json:"test,omitempty" doc:"A key of the test environment"`
	Caps      *Caps    `json:"caps,omitempty" doc:"On the spending of the key and its successors"`
	Rate      *string  `json:"rate,omitempty" doc:"A bound on the requests of the key and its successors, such as 60/1m burst 100; none or absent: no bound"`
	ExpiresIn string   `json:"expires_in,omitempty" doc:"A time from now, such as 2160h, or never; absent: never, and for personal keys the default"`
	Force     bool     `json:"force,omitempty" doc:"Accept servers that the config does not have yet"`
	Digest    string   `json:"digest,omitempty" doc:"The SHA-256, in hex digits, of a secret that another system has minted; absent: a secret is minted"`
}

// DefaultPersonalLife is the lifetime of personal keys unless the settings or the
// request set another one.
const DefaultPersonalLife = 183 * 24 * time.Hour

// Bounds of the properties of a key.
const (
	maxKeyName   = 128
	maxKeyScopes = 64
	maxServers   = 64
)

// CreateKey creates a key and returns it with its secret, which cannot be shown
// again. The secret is "" if the request gave the digest.
func (s *Service) CreateKey(ctx context.Context, actor Actor, n NewKey) (keys.Key, string, error) {
	key, err := s.newKey(n)
	if err != nil {
		return keys.Key{}, "", err
	}
	account, err := s.Account(ctx, n.Account)
	if err != nil {
		return keys.Key{}, "", err
	}
	key.Account = account.ID
	n.Scopes = key.Scopes // the audit row records the default scopes, because the config may change later
	secret, err := s.giveSecret(&key, n.Digest)
	if err != nil {
		return keys.Key{}, "", err
	}
	err = s.store.CreateKey(ctx, key, s.audit(actor, "key.create", key.ID, n))
	// Make caches forget the key, because a cache may have remembered the key as
	// unknown. This is necessary even after an error, because the store may have
	// created the key nonetheless.
	s.revoke(key.Digest)
	if err != nil {
		if errors.Is(err, ledger.ErrConflict) {
			return keys.Key{}, "", refuse(Conflict, "there is a key with this secret already")
		}
		return keys.Key{}, "", explain(err, "account", n.Account)
	}
	return key, secret, nil
}

// giveSecret gives the key a newly minted secret and returns the secret. If digest is
// not "", the key gets this digest, which belongs to an existing secret, and giveSecret
// returns "".
func (s *Service) giveSecret(k *keys.Key, digest string) (secret string, err error) {
	if digest == "" {
		form := s.settings().Secrets
		secret = form.Mint(k.Kind, k.Environment)
		k.Digest, k.Hint = keys.DigestOf(secret), form.Hint(secret)
		return secret, nil
	}
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) != len(k.Digest) {
		return "", refuse(Invalid, "the digest is not a SHA-256: want %d hex digits", 2*len(k.Digest))
	}
	k.Digest, k.Hint = keys.Digest(raw), "imported"
	return "", nil
}

func (s *Service) newKey(n NewKey) (keys.Key, error) {
	key := keys.Key{
		ID: ids.New("key_"), Kind: keys.Agent, Environment: keys.Live, Name: n.Name,
		Scopes: n.Scopes, Servers: n.Servers, CreatedAt: s.now(),
	}
	key.Lineage = key.ID
	if n.Test {
		key.Environment = keys.Test
	}
	var err error
	if n.Kind != "" {
		if key.Kind, err = keys.ParseKind(n.Kind); err != nil {
			return key, refuseField("kind", "%v", err)
		}
		if key.Kind.Rules().Token != "" {
			return key, refuseField("kind", "tokens of kind %s are issued to OAuth clients by farebox_oauth: want one of %s", key.Kind, strings.Join(keys.CreatedKinds(), ", "))
		}
	}
	if key.ExpiresAt, err = s.expiry(key.CreatedAt, key.Kind, n.ExpiresIn); err != nil {
		return key, err
	}
	if err := limitKey(&key, n.Caps, n.Rate); err != nil {
		return key, err
	}
	if key.Kind.Rules().NamedRights && len(key.Scopes) == 0 {
		key.Scopes = s.settings().Scopes.Default()
	}
	if err := checkRights(&key); err != nil {
		return key, err
	}
	if err := checkName(&key); err != nil {
		return key, err
	}
	if err := s.checkServers(n.Servers, nil, n.Force); err != nil {
		return key, err
	}
	return key, s.checkScopes(&key)
}

// checkScopes refuses undeclared scopes. Call it only when scopes are being set,
// because a key may keep a scope after its declaration was removed.
func (s *Service) checkScopes(k *keys.Key) error {
	declared := s.settings().Scopes
	if err := declared.Check(k.Scopes, k.Kind.Rules().NamedRights); err != nil {
		return refuseField("scopes", "%v", err)
	}
	if !k.Kind.Rules().NamedRights || len(k.Scopes) > 0 {
		return nil
	}
	names := declared.Names()
	if len(names) == 0 {
		return refuseField("scopes", "a personal key does what its scopes say, and would have none: name %s, or declare others in the global option farebox, in scopes", keys.ScopeConnect)
	}
	return refuseField("scopes", "a personal key does what its scopes say, and would have none: name one or more, of %s and the declared %s", keys.ScopeConnect, strings.Join(names, ", "))
}

// checkName refuses a personal key without a name, because the holder of such a key
// could not distinguish the key from others.
func checkName(k *keys.Key) error {
	if k.Kind.Rules().Personal && strings.TrimSpace(k.Name) == "" {
		return refuseField("name", "a personal key needs a name that says what it is for, such as laptop")
	}
	return nil
}

func (s *Service) expiry(from time.Time, kind keys.Kind, in string) (time.Time, error) {
	switch {
	case in == Never && kind.Rules().Personal:
		return time.Time{}, refuseField("expires_in", "a personal key always expires: give a time from now, such as 90d")
	case in == Never:
		return time.Time{}, nil
	case in != "":
		d, err := clock.ParseDuration(in)
		if err != nil || d <= 0 {
			return time.Time{}, refuseField("expires_in", "expiry %q is not a time from now, such as 90d or 12h", in)
		}
		return from.Add(d), nil
	case kind.Rules().Personal:
		return from.Add(s.settings().PersonalLife), nil
	}
	return time.Time{}, nil
}

// checkRights refuses a name or a list that is too long, and scopes and servers that a
// key of this kind cannot have.
func checkRights(k *keys.Key) error {
	switch {
	case len(k.Name) > maxKeyName:
		return refuseField("name", "the name of a key has at most %d bytes", maxKeyName)
	case strings.ContainsFunc(k.Name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return refuseField("name", "the name of a key is on one line: no tabs, line ends or control characters")
	case len(k.Scopes) > maxKeyScopes:
		return refuseField("scopes", "a key has at most %d scopes", maxKeyScopes)
	case len(k.Servers) > maxServers:
		return refuseField("servers", "a key has at most %d servers", maxServers)
	}
	reserved := []string{keys.ScopeCharge, keys.ScopeLookup, keys.ScopeAdmin, keys.ScopeRefresh}
	if !k.Kind.Rules().NamedRights {
		reserved = append(reserved, keys.ScopeConnect)
	}
	for _, scope := range k.Scopes {
		if slices.Contains(reserved, scope) {
			return refuseField("scopes", "scope %q comes with a kind of key and cannot be given to one of kind %s: choose the kind when the key is made, with --kind", scope, k.Kind)
		}
	}
	for _, server := range k.Servers {
		if !keys.ValidServer(server) {
			return refuseField("servers", "server %q is not allowed: want the name that its farebox directive gives", server)
		}
	}
	return nil
}

// namedServers is the maximum number of servers that an error message lists.
const namedServers = 20

// checkServers refuses servers that the config does not have, because a key with a
// misspelt server name can call no server. Servers that the key already had are
// accepted.
func (s *Service) checkServers(asked, had []string, force bool) error {
	known := s.settings().Servers
	if len(known) == 0 || force {
		return nil
	}
	for _, server := range asked {
		if slices.Contains(known, server) || slices.Contains(had, server) {
			continue
		}
		list := strings.Join(known[:min(len(known), namedServers)], ", ")
		if len(known) > namedServers {
			list += ", …"
		}
		return refuseField("servers", "there is no server %q in the config, which has: %s. If it is yet to come, name it with --force (in the API, \"force\": true)", server, list)
	}
	return nil
}

func (s *Service) revoke(d keys.Digest) {
	if s.revoker != nil {
		s.revoker.Revoke(d)
	}
}
