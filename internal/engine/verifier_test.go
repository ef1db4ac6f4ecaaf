package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// books has a method verify, which is a fake verification of the books and counts its
// calls. A lock guards the fields. The fake clock already puts all accesses in order,
// but the race detector does not know this order.
type books struct {
	mu     sync.Mutex
	calls  int
	result ledger.Verification
	err    error
	steps  int           // number of progress reports of one verification
	step   time.Duration // duration of each step
}

// locked calls f, which may read and change the fields.
func (b *books) locked(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// called returns how many verifications have begun.
func (b *books) called() (calls int) {
	b.locked(func() { calls = b.calls })
	return calls
}

func (b *books) verify(ctx context.Context, progress func(done, total int64)) (result ledger.Verification, err error) {
	var steps int
	b.locked(func() {
		b.calls++
		steps = b.steps
	})
	for range steps {
		var step time.Duration
		b.locked(func() { step = b.step })
		time.Sleep(step)
		progress(1, 1)
	}
	b.locked(func() { result, err = b.result, errors.Join(b.err, ctx.Err()) })
	return result, err
}

// TestBooksAreVerified checks when a runtime verifies the books without being asked:
// within five minutes of the start, and then once in each period. A changed period
// counts from the time of the change, and the period 0 ends the verifications.
func TestBooksAreVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(books)
		a := newVerifier(b.verify, false, slog.New(slog.DiscardHandler))
		defer a.close()
		expect := func(what string, after time.Duration, calls int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := b.called(); got != calls {
				t.Errorf("%s: %d verifications, want %d", what, got, calls)
			}
		}
		if _, ok := a.latest(); ok {
			t.Error("there is a result before the first verification")
		}
		expect("no period yet", time.Hour, 0)
		a.setEvery(24 * time.Hour)
		expect("soon after the start", firstVerify, 1)
		result, ok := a.latest()
		if age := clock.Since(result.At); !ok || age < 0 || age > firstVerify/10+1 {
			t.Errorf("the result is %v old, %v", age, ok)
		}
		expect("within the period", 20*time.Hour, 1)
		expect("after the period", 4*time.Hour, 2)
		a.setEvery(time.Hour)
		expect("a shorter period", time.Hour, 3)
		a.setEvery(0)
		expect("never", 48*time.Hour, 3)
	})
}

// TestDifferencesAreReported checks that differences are logged as an error and kept as
// the result, and that a verification that fails leaves the previous result in place.
func TestDifferencesAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := &books{result: ledger.Verification{Differences: []string{"account alice: 1 is missing", "and another"}}}
		a := newVerifier(b.verify, false, slog.New(slog.NewTextHandler(&log, nil)))
		defer a.close()
		a.setEvery(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.locked(func() { b.err = ledger.ErrUnavailable })
		time.Sleep(time.Minute)
		synctest.Wait()
		if result, ok := a.latest(); !ok || result.Differences != 2 || b.called() != 2 {
			t.Errorf("result %+v, %v after %d verifications", result, ok, b.called())
		}
		for _, want := range []string{"level=ERROR", "differences=2", "alice: 1 is missing", "could not be verified"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q: %s", want, &log)
			}
		}
	})
}

// TestVerificationIsSlow checks that a verification in this process works for at most a
// fifth of the time, and that closing the runtime does not wait for it.
func TestVerificationIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &books{steps: 10, step: time.Second}
		a := newVerifier(b.verify, true, slog.New(slog.DiscardHandler))
		a.once(t.Context())
		if result, ok := a.latest(); !ok || result.Took != 50*time.Second {
			t.Errorf("ten seconds of work took %v, %v", result.Took, ok)
		}
		b.locked(func() { b.steps = 1000 })
		a.setEvery(time.Minute)
		time.Sleep(2 * time.Minute)
		began := clock.Now()
		a.task.cancel()
		b.locked(func() { b.step = 0 })
		a.close()
		if waited := clock.Since(began); waited > time.Second {
			t.Errorf("closing took %v", waited)
		}
	})
}
