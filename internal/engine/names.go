package engine

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// namer is a store that knows the names of accounts by their ids.
type namer interface {
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
}

const (
	// maxNames bounds how many names are kept. Names never change.
	maxNames = 1 << 12
	// nameTime bounds how long a refusal waits for a name.
	nameTime = time.Second
	// nameAgain is for how long a store that did not answer is not asked again.
	nameAgain = 5 * time.Second
)

// names are those of accounts whose calls were refused: a flood of refusals asks
// the store once.
type names struct {
	store namer // nil: none is known

	mu    sync.Mutex
	known map[string]string
	again time.Time
}

func newNames(store Store) *names {
	s, _ := store.(namer)
	return &names{store: s, known: make(map[string]string)}
}

// of returns the name of an account, "" if it cannot be told now.
func (n *names) of(ctx context.Context, id string) string {
	if n.store == nil {
		return ""
	}
	n.mu.Lock()
	name, known := n.known[id]
	resting := clock.Now().Before(n.again)
	n.mu.Unlock()
	if known || resting {
		return name
	}
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	found, err := n.store.AccountNames(ctx, []string{id})
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil:
		n.again = clock.Now().Add(nameAgain)
	case found[id] != "":
		if len(n.known) >= maxNames {
			clear(n.known)
		}
		n.known[id] = found[id]
	}
	return found[id]
}

// AccountName returns the name of an account for a refusal, "" if the store does
// not tell it soon. It needs a lease.
func (r *Runtime) AccountName(ctx context.Context, id string) string { return r.names.of(ctx, id) }
