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

// mismatch returns the error for a response that does not match its request.
func mismatch(what string) error {
	return fmt.Errorf("%w: the platform answered about something else: %s", ledger.ErrUnavailable, what)
}

// KeyByDigest returns the key with that digest, even if the key is expired, disabled
// or deleted. Errors: keys.ErrUnknown, ledger.ErrUnavailable.
func (s *Store) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	var got wire.Key
	err := s.ask(ctx, request{
		method: http.MethodPost, path: []string{"keys", "lookup"}, in: wire.Lookup{Digest: hex.EncodeToString(d[:])}, out: &got, limit: smallResponse,
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, keys.ErrUnknown
	}
	if err != nil {
		return nil, filterError(err)
	}
	k, err := got.Key()
	if err == nil {
		_, err = keys.ParseEnvironment(got.Environment)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the platform answered with a key that cannot be one: %w", ledger.ErrUnavailable, err)
	case k.Digest != d || k.ID == "" || k.Account == "" || k.Lineage == "":
		return nil, mismatch("another key")
	}
	s.names.note(k.Account, got.AccountName)
	return k, nil
}

// maxNames bounds the number of cached account names.
const maxNames = 1 << 16

// names caches account names by account id. They come from lookups of keys.
type names struct {
	mu    sync.Mutex
	known map[string]string
}

func (n *names) note(id, name string) {
	if ledger.ValidName(name) != nil {
		return // the name is invalid, or it is missing because the platform is older
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNames {
		n.known = make(map[string]string)
	}
	n.known[id] = name
}

// AccountNames returns account names by id. It sends no request, and so returns only
// the names that lookups of keys have returned before.
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

// filterError returns err if it is nil, ledger.ErrUnavailable or one of the allowed
// errors. Otherwise it returns an error that wraps ledger.ErrUnavailable and err.
func filterError(err error, allowed ...error) error {
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

// maxUsed bounds the number of keys in one request of TouchKeys.
const maxUsed = 10_000

// TouchKeys records when keys were last used, by id. Errors: ledger.ErrUnavailable,
// after which the times of some keys may be recorded.
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
	return filterError(s.ask(ctx, request{method: http.MethodPost, path: []string{"keys", "used"}, in: wire.Used{Keys: used}, limit: smallResponse}))
}

// MaxBelief bounds the time for which a result of KeyByDigest may be cached, because
// the platform charges only keys that were looked up recently.
func (s *Store) MaxBelief() time.Duration { return wire.MaxBelief }
