package engine

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/signal"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// DefaultVerifyEvery is the pause between two verifications of the books.
const DefaultVerifyEvery = 24 * time.Hour

const (
	// firstVerify is the longest time from the start of a process to its first
	// verification, so that a process that is restarted every day verifies, too.
	firstVerify = 5 * time.Minute
	// verifyShare divides the time: a verification in this process works for one part
	// in verifyShare of the time. It pauses for the rest, because calls need the
	// processor more.
	verifyShare = 5
)

// verifier verifies the books from time to time.
type verifier struct {
	verify  func(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error)
	pauses  bool // whether the verification can pause, because it runs in this process and not in a database
	logger  *slog.Logger
	every   atomic.Int64 // a time.Duration; 0 for never
	changed signal.Broadcast
	last    atomic.Pointer[telemetry.Verified] // nil before the first verification
	task    *background
}

func newVerifier(verify func(context.Context, func(done, total int64)) (ledger.Verification, error), pauses bool, logger *slog.Logger) *verifier {
	v := &verifier{verify: verify, pauses: pauses, logger: logger}
	v.task = begin(v.run)
	return v
}

// setEvery sets the pause between two verifications; 0 means that the runtime starts no
// more verifications. setEvery does nothing if v is nil.
func (v *verifier) setEvery(every time.Duration) {
	if v != nil && v.every.Swap(int64(every)) != int64(every) {
		v.changed.Notify()
	}
}

func (v *verifier) run(ctx context.Context) {
	for first := true; ctx.Err() == nil; {
		changed := v.changed.Wait() // taken before v.every is read; otherwise a change of v.every could be missed
		every := time.Duration(v.every.Load())
		if every == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		wait := every
		if first {
			wait = min(every, firstVerify)
		}
		// Nodes that share a database, and were started together, should not verify at
		// the same time.
		due := clock.Now().Add(wait - rand.N(wait/10+1))
		if err := clock.SleepOr(ctx, clock.Until(due), changed); err != nil || clock.Now().Before(due) {
			continue // the process ends, or the config has changed
		}
		first = false
		v.once(ctx)
	}
}

// once runs one verification of the books, and records and logs its result.
func (v *verifier) once(ctx context.Context) {
	began := clock.Now()
	found, err := v.verify(ctx, v.pace(ctx))
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		v.logger.Warn("the books could not be verified", "error", err)
		return
	}
	result := &telemetry.Verified{At: clock.Now(), Took: clock.Since(began), Differences: len(found.Differences)}
	v.last.Store(result)
	if result.Differences > 0 {
		v.logger.Error("the books do not balance: run ledger verify, and see docs/runbook.md", "differences", result.Differences, "first", found.Differences[0])
		return
	}
	v.logger.Info("the books balance", "accounts", found.Accounts, "transactions", found.Transactions, "took", result.Took)
}

// pace returns a progress function that slows the verification down, or nil. A
// verification in a database cannot pause, because it holds a snapshot.
func (v *verifier) pace(ctx context.Context) func(done, total int64) {
	if !v.pauses {
		return nil
	}
	began := clock.Now()
	return func(int64, int64) {
		_ = clock.Sleep(ctx, (verifyShare-1)*clock.Since(began)) // the verification itself checks ctx
		began = clock.Now()
	}
}

// latest returns the result of the last verification, or false before the first.
func (v *verifier) latest() (telemetry.Verified, bool) {
	if v == nil {
		return telemetry.Verified{}, false
	}
	last := v.last.Load()
	if last == nil {
		return telemetry.Verified{}, false
	}
	return *last, true
}

// close ends the background task. It does nothing if v is nil.
func (v *verifier) close() {
	if v != nil {
		v.task.end()
	}
}
