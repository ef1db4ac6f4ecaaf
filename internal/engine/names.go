package engine

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// namer is a store that can look up the names of accounts.
type namer interface {
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
}

const (
	// maxNames bounds the cache. Entries need no expiry, because names never change.
	maxNames = 1 << 12
	// nameTime bounds how long a refusal waits for a name.
	nameTime = time.Second
	// nameRetry is the pause after a failed query, in which the store is not asked
	// again.
	nameRetry = 5 * time.Second
)

// names caches the names of accounts for refusal texts, so that a flood of refusals
// asks the store only once.
type names struct {
	store namer // nil if the store cannot look up names

	mu      sync.Mutex
	known   map[string]string
	retryAt time.Time
}

func newNames(store Store) *names {
	s, _ := store.(namer)
	return &names{store: s, known: make(map[string]string)}
}

// lookup returns the name of an account, or "" if the name is unknown or the store
// failed.
func (n *names) lookup(ctx context.Context, id string) string {
	if n.store == nil {
		return ""
	}
	n.mu.Lock()
	name, known := n.known[id]
	pausing := clock.Now().Before(n.retryAt)
	n.mu.Unlock()
	if known || pausing {
		return name
	}
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	found, err := n.store.AccountNames(ctx, []string{id})
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil:
		n.retryAt = clock.Now().Add(nameRetry)
	case found[id] != "":
		if len(n.known) >= maxNames {
			clear(n.known)
		}
		n.known[id] = found[id]
	}
	return found[id]
}

// AccountName returns the name of an account for a refusal text, or "" if the name is
// unknown or not available within a second. The caller must hold a reference to the
// runtime; see Acquire.
func (r *Runtime) AccountName(ctx context.Context, id string) string { return r.names.lookup(ctx, id) }
