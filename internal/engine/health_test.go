package engine

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

func conditions(reasons []Reason) (all []Condition) {
	for _, r := range reasons {
		all = append(all, r.Condition)
	}
	return all
}

// TestFollowerIsStale checks when the cached keys of a node count as stale. They are
// stale as soon as the node's lease has ended, and not before, whether the node's
// reads of the log fail or hang. They are fresh again after the next successful read.
// If the very first read of a node fails, its keys are stale at once, but not while
// that read is still in progress.
func TestFollowerIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shared{revocationLog: newRevocationLog(clock.Now, 0)}
		begin := func() *follower {
			f := follow(s, &memory{began: clock.Now()}, func(keys.Digest) {}, func() {}, slog.New(slog.DiscardHandler))
			synctest.Wait()
			return f
		}
		check := func(f *follower, want bool, cause, when string) {
			t.Helper()
			synctest.Wait()
			stale, err := f.stale()
			if stale != want || stale && !strings.Contains(err.Error(), cause) {
				t.Errorf("%s: stale %v (%v), want %v (%s)", when, stale, err, want, cause)
			}
		}

		first := make(chan struct{})
		s.frozen.Store(&first)
		f := begin()
		check(f, false, "", "during the first read")
		s.frozen.Store(nil)
		close(first)
		f.stop()

		s.broken.Store(true)
		f = begin()
		check(f, true, errBroken.Error(), "at a start without a store")
		s.broken.Store(false)
		time.Sleep(retryEvery)
		check(f, false, "", "with the store back")

		s.broken.Store(true)
		time.Sleep(LeaseTime - renewEvery)
		check(f, false, "", "before the end of the lease")
		time.Sleep(renewEvery)
		check(f, true, errBroken.Error(), "after the end of the lease")
		s.broken.Store(false)
		time.Sleep(retryEvery)
		check(f, false, "", "with the store back again")

		wake := make(chan struct{})
		s.frozen.Store(&wake)
		time.Sleep(LeaseTime + renewEvery)
		check(f, true, "the last read that succeeded began 2", "with a read that hangs")
		s.frozen.Store(nil)
		close(wake)
		time.Sleep(renewEvery) // the read that hung returns a lease that began before it hung and has ended, so a further read is needed
		check(f, false, "", "with the next read done")
		f.stop()
	})
}

// ailing is a store with settable results: Healthy returns the error in a.ill, and Busy
// returns the duration in a.busy.
type ailing struct {
	*shared
	ill  atomic.Pointer[error]
	busy atomic.Int64 // nanoseconds
}

func (a *ailing) Busy() time.Duration { return time.Duration(a.busy.Load()) }

func (a *ailing) Healthy() error {
	if err := a.ill.Load(); err != nil {
		return *err
	}
	return a.shared.Healthy()
}

// TestUnready checks the reasons of a runtime: a store that cannot write, key changes
// that cannot be read, both of these, and the shutdown of the runtime. Each reason
// disappears with its cause.
func TestUnready(t *testing.T) {
	dir := t.TempDir()
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: filepath.Join(dir, "f.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	part := &ailing{shared: &shared{Store: store, revocationLog: newRevocationLog(clock.Now, 0)}}
	r, err := Open(t.Context(), Options{
		Open:    func(context.Context) (Store, error) { return part, nil },
		KeyFile: filepath.Join(dir, "receipt-key"), SealFile: filepath.Join(dir, "seal-key"), DebtDir: filepath.Join(dir, "refunds"),
		Cache: keycache.Options{}, Metrics: telemetry.New(new(telemetry.Process)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	await := func(want ...Condition) []Reason {
		t.Helper()
		for until := clock.Now().Add(5 * LeaseTime); ; {
			reasons := r.Unready()
			if slices.Equal(conditions(reasons), want) {
				return reasons
			}
			if clock.Now().After(until) {
				t.Fatalf("got %v, want %v", reasons, want)
			}
			<-time.After(time.Millisecond)
		}
	}
	await()
	full := errors.New("the disk is full")
	part.ill.Store(&full)
	if got := await(StoreDown); !errors.Is(got[0].Detail, full) || strings.Contains(got[0].Message(), "disk") {
		t.Errorf("got %+v: want the cause in the detail only", got)
	}
	part.broken.Store(true)
	if got := await(StoreDown, KeysStale); !errors.Is(got[1].Detail, errBroken) {
		t.Errorf("got %+v", got)
	}
	part.ill.Store(nil)
	await(KeysStale)
	part.broken.Store(false)
	await()
	part.busy.Store(int64(stalledAfter - 1))
	await()
	part.busy.Store(int64(stalledAfter))
	if got := await(StoreDown); !strings.Contains(got[0].Detail.Error(), "has taken 5s") {
		t.Errorf("got %+v", got)
	}
	part.busy.Store(0)
	await()
	if err := r.Destruct(); err != nil {
		t.Fatal(err)
	}
	await(Draining)
}

// TestDrainingAtOnce checks that a runtime reports that it is draining while calls are
// still in flight.
func TestDrainingAtOnce(t *testing.T) {
	r, _ := open(t, t.TempDir())
	if err := r.Acquire(); err != nil {
		t.Fatal(err)
	}
	if got := r.Unready(); got != nil {
		t.Errorf("got %v", got)
	}
	done := make(chan error)
	go func() { done <- r.Destruct() }()
	for len(r.Unready()) == 0 { // wait until closing has begun
	}
	if got := conditions(r.Unready()); !slices.Equal(got, []Condition{Draining}) {
		t.Errorf("got %v", got)
	}
	r.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestConditionsHaveMessages checks that each condition has a short message that names
// no internals.
func TestConditionsHaveMessages(t *testing.T) {
	for _, c := range Conditions {
		if m := c.Message(); m == string(c) || len(m) > 100 {
			t.Errorf("%s: %q", c, m)
		}
	}
}
