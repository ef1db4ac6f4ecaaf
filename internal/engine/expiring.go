package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// countEvery is how long a count of expiring keys is cached, to keep scrapes cheap.
	countEvery = 30 * time.Second
	// countTime bounds one count in the store.
	countTime = 2 * time.Second
)

// expiring caches counts of the keys that expire soon. It is safe for concurrent use.
// Concurrent callers share one count.
type expiring struct {
	count  func(ctx context.Context, deadlines []time.Time) ([]int64, error)
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	within  []time.Duration // the durations of the last count
	counted time.Time       // the time of the last count, with a monotonic reading
	last    []int64
	failed  bool // whether the last count failed; failures are cached as well
}

func newExpiring(count func(context.Context, []time.Time) ([]int64, error), now func() time.Time, logger *slog.Logger) *expiring {
	return &expiring{count: count, now: now, logger: logger}
}

// counts returns, for each duration, the number of keys that expire within it. The
// counts are at most countEvery old. counts returns false if the last count failed.
func (e *expiring) counts(within []time.Duration) ([]int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if age := e.now().Sub(e.counted); age < 0 || age >= countEvery || !slices.Equal(within, e.within) {
		e.refresh(within)
	}
	return slices.Clone(e.last), !e.failed
}

func (e *expiring) refresh(within []time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	now := e.now()
	deadlines := make([]time.Time, len(within))
	for i, d := range within {
		deadlines[i] = now.Add(d)
	}
	last, err := e.count(ctx, deadlines)
	if err != nil {
		e.logger.Warn("the expiring keys could not be counted", "error", err)
	}
	// The age of the counts is measured from the end of the query. If it were measured
	// from the beginning, a slow store would be queried without a pause.
	e.within, e.counted, e.last, e.failed = slices.Clone(within), e.now(), last, err != nil
}
