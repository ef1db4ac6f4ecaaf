package alert

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	// stepTime bounds one step of an evaluation.
	stepTime = 30 * time.Second
	// readMost is the number of transactions that one step reads. Each failed step
	// halves the number for the next step, down to readLeast, because the step may have
	// failed for being too large.
	readMost  = 5000
	readLeast = 50
	// sweepMost is the number of accounts with a threshold that one step checks in
	// addition to the accounts with new transactions. These checks find new thresholds,
	// and balances that changed without a transaction, such as by a reservation.
	sweepMost = 500
	// pruneEvery is the pause between two deletions of old rows.
	pruneEvery = time.Hour
	// pruneMost is the number of alerts, and of states, that one transaction deletes.
	pruneMost = 1000
	// statesKept is the time for which states of kind Cap and Spend are kept. It is
	// longer than a month, the longest period that such a state is about.
	statesKept = 40 * 24 * time.Hour
)

// Run evaluates alerts and delivers them until ctx ends. It waits for the first call of
// Configure, because the channels are unknown before that.
func (s *Service) Run(ctx context.Context) {
	select {
	case <-s.configured:
	case <-ctx.Done():
		return
	}
	var running sync.WaitGroup
	running.Go(func() { s.watch(ctx) })
	running.Go(func() { s.deliverAll(ctx) })
	running.Wait()
}

// watch evaluates alerts until ctx ends.
func (s *Service) watch(ctx context.Context) {
	for failed := false; ; {
		pause := s.current.Load().Every
		more, err := s.Evaluate(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			s.o.Logger.Warn("alerts cannot be evaluated: they are late until they can", "error", err)
		}
		failed = err != nil
		if more && !failed {
			pause = time.Millisecond // a short pause, so that calls can use the store first
		}
		if wait(ctx, pause, s.changed) != nil {
			return
		}
	}
}

// wait returns nil after the duration, or as soon as the channel has a value. If ctx
// ends first, wait returns the error of ctx.
func wait(ctx context.Context, d time.Duration, early <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slept := make(chan error, 1)
	go func() { slept <- clock.Sleep(ctx, d) }()
	select {
	case err := <-slept:
		return err
	case <-early:
		return nil
	}
}

// Evaluate makes one step. It reads the next transactions of the journal, and raises
// alerts for the accounts and keys in these transactions. It reports whether more
// transactions follow.
//
// Several nodes may make the same step at the same time. The cursor moves in the
// transaction that writes the alerts, so only one of these nodes writes them.
func (s *Service) Evaluate(ctx context.Context) (more bool, err error) {
	s.evaluating.Lock()
	defer s.evaluating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := s.refreshNetworks(ctx); err == nil {
		s.failing.end(networksFail)
	} else if ctx.Err() == nil && s.failing.due(networksFail, s.o.Now()) {
		s.o.Logger.Warn("new networks of keys cannot be read or written: their alerts are late until they can", "error", err)
	}
	more, err = s.step(ctx)
	if err != nil {
		if s.reads() > readLeast {
			s.halved++
		}
		return false, err
	}
	s.halved = max(s.halved-1, 0)
	if !more {
		err = s.prune(ctx)
	}
	return more, err
}

// reads returns the number of transactions that the next step reads.
func (s *Service) reads() int { return max(readMost>>s.halved, readLeast) }

// step makes one step: it reads, judges and writes. It reports whether the next step
// can follow without a pause.
func (s *Service) step(ctx context.Context) (more bool, err error) {
	r := &step{s: s, ctx: ctx, now: s.o.Now()}
	if err := r.read(); err != nil {
		return false, err
	}
	if err := r.judge(); err != nil {
		return false, err
	}
	if !r.idle() {
		if err := r.write(); err != nil {
			return false, err
		}
	}
	s.sweptTo = r.sweptTo
	return r.moved.More || r.overtaken || r.learning, r.failed
}

// prune deletes old rows, and the states of lineages that have no keys left. It does so
// at most once per pruneEvery.
func (s *Service) prune(ctx context.Context) error {
	now := s.o.Now()
	if now.Sub(s.pruned) < pruneEvery {
		return nil
	}
	var n int64
	err := s.store.Change(ctx, func(tx Tx) (err error) {
		n, err = tx.DeleteBefore(now.Add(-Kept), now.Add(-statesKept), pruneMost)
		return err
	})
	if err != nil || n == pruneMost {
		return err
	}
	s.pruned = now
	return s.forget(ctx)
}
