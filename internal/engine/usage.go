package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Uses of keys are recorded in memory and written in batches. Writing each use would
// cost as much as a charge, although the times need not be exact to the second.
const (
	usageEvery = time.Minute
	// maxUsed bounds the keys in a batch. Uses of further keys are not recorded until
	// the next batch.
	maxUsed = 1 << 16
	// perWrite bounds the keys in one transaction, because captures wait while the
	// transaction runs.
	perWrite = 256
)

// usage records when keys were used, by key id.
type usage struct {
	write  func(context.Context, map[string]time.Time) error
	logger *slog.Logger
	stop   chan struct{}
	ended  chan struct{}

	mu   sync.RWMutex
	seen map[string]time.Time // time of the first use in this batch
}

func newUsage(write func(context.Context, map[string]time.Time) error, logger *slog.Logger) *usage {
	u := &usage{
		write: write, logger: logger, seen: make(map[string]time.Time),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go u.run()
	return u
}

// note records a use. Only the first use of a key in a batch is recorded.
func (u *usage) note(id string, at time.Time) {
	u.mu.RLock()
	skip := u.skips(id)
	u.mu.RUnlock()
	if skip {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.skips(id) { // check again, because other goroutines may have changed the batch in between
		u.seen[id] = at
	}
}

// unwritten returns the time of the key's first use in this batch, or the zero time.
func (u *usage) unwritten(id string) time.Time {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.seen[id]
}

// skips reports whether a use of the key is not recorded in this batch. u.mu must be
// locked.
func (u *usage) skips(id string) bool {
	_, known := u.seen[id]
	return known || len(u.seen) >= maxUsed
}

func (u *usage) run() {
	defer close(u.ended)
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.flush()
		case <-u.stop:
			u.flush()
			return
		}
	}
}

// flush writes the batch. It drops uses that it cannot write, because the keys will
// be used again.
func (u *usage) flush() {
	u.mu.Lock()
	batch := u.seen
	u.seen = make(map[string]time.Time, len(batch))
	u.mu.Unlock()
	part := make(map[string]time.Time, min(len(batch), perWrite))
	for id, at := range batch {
		if part[id] = at; len(part) == perWrite {
			u.writePart(part)
		}
	}
	u.writePart(part)
}

func (u *usage) writePart(part map[string]time.Time) {
	if len(part) == 0 {
		return
	}
	if err := u.write(context.Background(), part); err != nil {
		u.logger.Warn("the last uses of keys could not be noted", "keys", len(part), "error", err)
	}
	clear(part)
}

// close writes the last batch and ends the background task.
func (u *usage) close() {
	close(u.stop)
	<-u.ended
}
