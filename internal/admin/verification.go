package admin

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/signal"
)

// verifications lets at most one verification of the books run in this process at a
// time. A caller that asks for a verification while one is running waits for the
// result of the running one. The zero value is ready to use.
type verifications struct {
	mu         sync.Mutex
	latest     *verification // the running verification or the last one that ended; nil before the first
	background bool          // whether the goroutine of StartVerification is running
	closed     bool
	cancel     context.CancelFunc // ends the background verification
	running    sync.WaitGroup
}

// verification is one verification of the books.
type verification struct {
	began   time.Time
	ended   chan struct{} // closed at the end, after the fields below are set
	found   ledger.Verification
	err     error
	left    bool // the caller that performed it has left
	endedAt time.Time

	mu          sync.Mutex
	done, total int64 // transactions
	changed     signal.Broadcast
}

// progress records how many of the transactions are verified.
func (v *verification) progress(done, total int64) {
	v.mu.Lock()
	v.done, v.total = done, total
	v.mu.Unlock()
	v.changed.Notify()
}

func (v *verification) counts() (done, total int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.done, v.total
}

// over reports whether the verification has ended.
func (v *verification) over() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}

// wait waits until the verification or ctx has ended. Meanwhile, unless progress is
// nil, it calls progress(done, total) with the number of verified transactions and the
// total.
func (v *verification) wait(ctx context.Context, progress func(done, total int64)) error {
	for {
		changed := v.changed.Wait()
		if done, total := v.counts(); progress != nil && total > 0 {
			progress(done, total)
		}
		select {
		case <-v.ended:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin returns the running verification. If none runs, it returns a new one, which the
// caller must perform, and mine is true. The caller holds x.mu.
func (x *verifications) begin(now time.Time) (v *verification, mine bool) {
	if x.latest != nil && !x.latest.over() {
		return x.latest, false
	}
	x.latest = &verification{began: now, ended: make(chan struct{})}
	return x.latest, true
}

// Verify replays the books; see ledger.Verification. Unless progress is nil, Verify
// calls progress(done, total) from time to time. If a verification is already running
// in this process, Verify waits for it and returns its result.
func (s *Service) Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error) {
	x := &s.verifications
	x.mu.Lock()
	v, mine := x.begin(s.now())
	x.mu.Unlock()
	return s.verify(ctx, v, mine, progress)
}

// verify performs the verification if mine is true, and otherwise waits for it.
func (s *Service) verify(ctx context.Context, v *verification, mine bool, progress func(done, total int64)) (ledger.Verification, error) {
	x := &s.verifications
	for !mine {
		if err := v.wait(ctx, progress); err != nil {
			return ledger.Verification{}, err
		}
		if v.err == nil || !v.left {
			return v.found, v.err
		}
		x.mu.Lock() // the caller that performed v has left, so this caller may have to perform the next verification
		v, mine = x.begin(s.now())
		x.mu.Unlock()
	}
	v.found, v.err = s.store.Verify(ctx, func(done, total int64) {
		v.progress(done, total)
		if progress != nil {
			progress(done, total)
		}
	})
	v.left, v.endedAt = ctx.Err() != nil, s.now()
	close(v.ended)
	return v.found, v.err
}

// StartVerification starts a background verification, which runs until it ends or the
// service is closed. If a caller is already performing one, the background verification
// waits for it, and takes over if that caller leaves.
func (s *Service) StartVerification() {
	x := &s.verifications
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.background || x.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.background, x.cancel = true, cancel
	v, mine := x.begin(s.now())
	x.running.Go(func() {
		defer cancel()
		if _, err := s.verify(ctx, v, mine, nil); err != nil && ctx.Err() == nil && s.unverified != nil {
			s.unverified(err)
		}
		x.mu.Lock()
		x.background = false
		x.mu.Unlock()
	})
}

// Close ends the background verification and waits until it has ended.
func (s *Service) Close() {
	x := &s.verifications
	x.mu.Lock()
	x.closed = true
	if x.cancel != nil {
		x.cancel()
	}
	x.mu.Unlock()
	x.running.Wait()
}

// WithVerifications sets the name of this process, for VerificationState. It also sets
// a function to call with the error of each background verification that fails. It
// returns the service. Call it before the service is used.
func (s *Service) WithVerifications(node string, failed func(error)) *Service {
	s.node, s.unverified = node, failed
	return s
}

// VerificationState is the state of the running or the last verification of the books
// in this process, in JSON.
type VerificationState struct {
	Node        string            `json:"node" doc:"The process that answers: its verifications are shown, and not those of other processes at the store"`
	State       string            `json:"state" doc:"none, running, ended or failed"`
	BeganAt     *time.Time        `json:"began_at,omitempty"`
	EndedAt     *time.Time        `json:"ended_at,omitempty"`
	Done        int64             `json:"done" doc:"Transactions that were read"`
	Total       int64             `json:"total" doc:"Transactions to read; 0 while that is not known"`
	SecondsLeft *float64          `json:"seconds_left,omitempty" doc:"An estimate, while it runs"`
	Result      *VerificationView `json:"result,omitempty" doc:"Once it has ended"`
}

// The states of a verification.
const (
	VerificationNone    = "none" // no verification since the start of the process
	VerificationRunning = "running"
	VerificationEnded   = "ended"
	VerificationFailed  = "failed" // the books could not be read
)

// VerificationState returns the state of the running verification, or of the last one.
func (s *Service) VerificationState() VerificationState {
	x := &s.verifications
	x.mu.Lock()
	v, background := x.latest, x.background
	x.mu.Unlock()
	state := VerificationState{Node: s.node, State: VerificationNone}
	if v == nil {
		return state
	}
	state.BeganAt = timeOrNull(v.began)
	state.Done, state.Total = v.counts()
	switch {
	case !v.over() || v.left && background: // the background verification takes over
		state.State = VerificationRunning
		if state.Done > 0 && state.Total >= state.Done {
			left := s.now().Sub(v.began).Seconds() * float64(state.Total-state.Done) / float64(state.Done)
			state.SecondsLeft = &left
		}
	case v.err != nil:
		state.State, state.EndedAt = VerificationFailed, timeOrNull(v.endedAt)
	default:
		view := ViewVerification(v.found)
		state.State, state.EndedAt, state.Result = VerificationEnded, timeOrNull(v.endedAt), &view
	}
	return state
}
