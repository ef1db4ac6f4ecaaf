package remotestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// doubt is an answer that must not be believed.
func doubt(what string) error {
	return fmt.Errorf("%w: the platform answered about something else: %s", ledger.ErrUnavailable, what)
}

// KeyByDigest returns the key of the digest, ended ones as well. Errors:
// keys.ErrUnknown, ledger.ErrUnavailable.
func (s *Store) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	var got wire.Key
	err := s.ask(ctx, request{
		method: http.MethodPost, path: []string{"keys", "lookup"}, in: wire.Lookup{Digest: hex.EncodeToString(d[:])}, out: &got, most: smallAnswer,
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, keys.ErrUnknown
	}
	if err != nil {
		return nil, only(err)
	}
	k, err := got.Key()
	if err == nil {
		_, err = keys.ParseEnvironment(got.Environment)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the platform answered with a key that cannot be one: %w", ledger.ErrUnavailable, err)
	case k.Digest != d || k.ID == "" || k.Account == "" || k.Lineage == "":
		return nil, doubt("another key")
	}
	s.names.note(k.Account, got.AccountName)
	return k, nil
}

// maxNames bounds how many names of accounts are kept.
const maxNames = 1 << 16

// names are those that lookups have told, of accounts by their ids.
type names struct {
	mu    sync.Mutex
	known map[string]string
}

func (n *names) note(id, name string) {
	if ledger.ValidName(name) != nil {
		return // a platform of before, or one that is not to be repeated
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNames {
		n.known = make(map[string]string)
	}
	n.known[id] = name
}

// AccountNames returns the names of those of the accounts, by their ids, that a
// lookup of one of their keys has told. It asks nothing.
func (s *Store) AccountNames(_ context.Context, ids []string) (map[string]string, error) {
	found := make(map[string]string, len(ids))
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	for _, id := range ids {
		if name, ok := s.names.known[id]; ok {
			found[id] = name
		}
	}
	return found, nil
}

// only lets the errors through that the operation may have: of everything else
// it is not known what it means.
func only(err error, allowed ...error) error {
	if err == nil || errors.Is(err, ledger.ErrUnavailable) {
		return err
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return err
		}
	}
	return fmt.Errorf("%w: the platform's answer has no meaning here: %w", ledger.ErrUnavailable, err)
}

// maxUsed is how many keys one request may tell of.
const maxUsed = 10_000

// TouchKeys notes when keys, by their ids, were last used. Errors:
// ledger.ErrUnavailable; some may be noted then.
func (s *Store) TouchKeys(ctx context.Context, used map[string]time.Time) error {
	part := make(map[string]time.Time, min(len(used), maxUsed))
	for id, at := range used {
		if part[id] = at; len(part) < maxUsed {
			continue
		}
		if err := s.touch(ctx, part); err != nil {
			return err
		}
		clear(part)
	}
	if len(part) == 0 {
		return nil
	}
	return s.touch(ctx, part)
}

func (s *Store) touch(ctx context.Context, used map[string]time.Time) error {
	return only(s.ask(ctx, request{method: http.MethodPost, path: []string{"keys", "used"}, in: wire.Used{Keys: used}, most: smallAnswer}))
}

// MaxBelief is for how long an answer of KeyByDigest may be believed at most: the
// platform charges a key that was asked for a short while ago.
func (s *Store) MaxBelief() time.Duration { return wire.MaxBelief }
