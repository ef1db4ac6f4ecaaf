package admin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// slowStore verifies 10 transactions, one a second.
type slowStore struct {
	Store
	begun int
	err   error
}

func (s *slowStore) Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error) {
	s.begun++
	for done := range int64(10) {
		if err := clock.Sleep(ctx, time.Second); err != nil {
			return ledger.Verification{}, err
		}
		progress(done+1, 10)
	}
	return ledger.Verification{Transactions: 10}, s.err
}

func verifying(s *slowStore, failed func(error)) *Service {
	return New(s, nil, func() *Settings { return new(Settings) }, clock.Now).WithVerifications("host/1", failed)
}

// TestVerificationIsJoined checks that a second verification waits for the first one,
// with its progress and its result, and that the state shows both.
func TestVerificationIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		s := verifying(store, nil)
		defer s.Close()
		if state := s.VerificationState(); state.State != VerificationNone || state.Node != "host/1" {
			t.Errorf("before: %+v", state)
		}
		s.StartVerification()
		s.StartVerification()
		time.Sleep(4500 * time.Millisecond)
		state := s.VerificationState()
		if state.State != VerificationRunning || state.Done != 4 || state.Total != 10 || state.SecondsLeft == nil || *state.SecondsLeft < 6 || *state.SecondsLeft > 7 {
			t.Errorf("while it runs: %+v", state)
		}
		var last int64
		found, err := s.Verify(t.Context(), func(done, total int64) { last = done })
		if err != nil || found.Transactions != 10 || last < 9 || store.begun != 1 {
			t.Errorf("joined: %+v, %v; %d verifications, progress to %d", found, err, store.begun, last)
		}
		synctest.Wait()
		if state := s.VerificationState(); state.State != VerificationEnded || state.Result == nil || state.Result.Transactions != 10 || state.EndedAt == nil {
			t.Errorf("after: %+v", state)
		}
		s.StartVerification()
		synctest.Wait()
		if store.begun != 2 {
			t.Errorf("%d verifications, want a second one", store.begun)
		}
	})
}

// TestVerificationIsTakenOver checks that if a caller leaves the verification that it
// performs, the background verification that was started meanwhile takes over.
func TestVerificationIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		s := verifying(store, nil)
		defer s.Close()
		ctx, leave := context.WithTimeout(t.Context(), 3*time.Second)
		defer leave()
		go s.Verify(ctx, nil)
		synctest.Wait()
		s.StartVerification()
		if _, err := s.Verify(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller that left got %v", err)
		}
		synctest.Wait()
		if state := s.VerificationState(); state.State != VerificationRunning || store.begun != 2 {
			t.Errorf("%+v, %d verifications", state, store.begun)
		}
		time.Sleep(11 * time.Second)
		if state := s.VerificationState(); state.State != VerificationEnded {
			t.Errorf("after: %+v", state)
		}
	})
}

// TestVerificationFails checks that the error of a background verification is reported,
// and that no error is reported for a verification that Close ends.
func TestVerificationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{err: ledger.ErrUnavailable}
		var reported error
		s := verifying(store, func(err error) { reported = err })
		s.StartVerification()
		time.Sleep(11 * time.Second)
		if state := s.VerificationState(); state.State != VerificationFailed || !errors.Is(reported, ledger.ErrUnavailable) {
			t.Errorf("%+v, reported %v", state, reported)
		}
		reported = nil
		s.StartVerification()
		synctest.Wait()
		s.Close()
		if reported != nil {
			t.Errorf("closing reports %v", reported)
		}
		s.StartVerification()
		if state := s.VerificationState(); state.State != VerificationFailed {
			t.Errorf("a closed service began: %+v", state)
		}
	})
}
