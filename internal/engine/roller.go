package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// summing is a store that sums usage up.
type summing interface {
	// SumUsage adds the next transactions of the journal to the sums. It does nothing
	// while another process does so.
	SumUsage(ctx context.Context) (ledger.UsageProgress, error)
}

const (
	// rollEvery is the pause after the whole journal was summed up. It is short,
	// because reports read the charges made during the pause one by one. A longer pause
	// would cost less, because charges of one key and tool that are summed up together
	// change the same sums.
	rollEvery = 5 * time.Second
	// rollShare divides the time: a roller that is behind works for one part in
	// rollShare of the time, and pauses for the rest, because calls come first. A
	// roller is behind after a store of an earlier version was opened, and after many
	// charges at once.
	rollShare = 4
	// rollTime bounds one step.
	rollTime = 10 * time.Second
)

// roller sums usage up in the background. It has no state of its own: the store keeps
// the cursor together with the sums, so that a crash loses and repeats nothing.
type roller struct {
	sum    func(context.Context) (ledger.UsageProgress, error)
	logger *slog.Logger
	last   atomic.Pointer[ledger.UsageProgress] // nil if the last step failed
	task   *background
}

func newRoller(sum func(context.Context) (ledger.UsageProgress, error), logger *slog.Logger) *roller {
	r := &roller{sum: sum, logger: logger}
	r.task = begin(r.run)
	return r
}

func (r *roller) run(ctx context.Context) {
	for pause, failed := rollEvery, false; clock.Sleep(ctx, pause) == nil; {
		began := clock.Now()
		more, err := r.step(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			r.logger.Warn("usage cannot be summed up: reports read the journal until it can", "error", err)
		}
		failed, pause = err != nil, rollEvery
		if more {
			pause = max((rollShare-1)*clock.Since(began), time.Millisecond)
		}
	}
}

// step sums some transactions up, and reports whether there are more.
func (r *roller) step(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rollTime)
	defer cancel()
	p, err := r.sum(ctx)
	if err != nil {
		r.last.Store(nil)
		return false, err
	}
	r.last.Store(&p)
	return p.More, nil
}

// latest returns the progress after the last step, or false if that step failed or r is
// nil.
func (r *roller) latest() (ledger.UsageProgress, bool) {
	if r == nil {
		return ledger.UsageProgress{}, false
	}
	last := r.last.Load()
	if last == nil {
		return ledger.UsageProgress{}, false
	}
	return *last, true
}

// close ends the background task. It does nothing if r is nil.
func (r *roller) close() {
	if r != nil {
		r.task.end()
	}
}
