package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// countEvery is how long a count of expiring keys is told again, so that
	// scraping it costs nothing.
	countEvery = 30 * time.Second
	// countTime bounds how long the store is asked for one.
	countTime = 2 * time.Second
)

// expiring counts the keys that expire soon, now and then. It is safe for
// concurrent use: those who ask while the store is asked wait for its answer.
type expiring struct {
	count  func(ctx context.Context, until []time.Time) ([]int64, error)
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	within []time.Duration // that were asked for
	asked  time.Time       // when, with its monotonic clock
	last   []int64
	failed bool // the store did not tell; that, too, is told again
}

func newExpiring(count func(context.Context, []time.Time) ([]int64, error), now func() time.Time, logger *slog.Logger) *expiring {
	return &expiring{count: count, now: now, logger: logger}
}

// counts returns a count for each of the times from now, which may be as old as
// countEvery, and false if there is none.
func (e *expiring) counts(within []time.Duration) ([]int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if age := e.now().Sub(e.asked); age < 0 || age >= countEvery || !slices.Equal(within, e.within) {
		e.ask(within)
	}
	return slices.Clone(e.last), !e.failed
}

func (e *expiring) ask(within []time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	now := e.now()
	until := make([]time.Time, len(within))
	for i, d := range within {
		until[i] = now.Add(d)
	}
	last, err := e.count(ctx, until)
	if err != nil {
		e.logger.Warn("the expiring keys could not be counted", "error", err)
	}
	// Reckoned from the end, or a slow store would be asked without a pause.
	e.within, e.asked, e.last, e.failed = slices.Clone(within), e.now(), last, err != nil
}
