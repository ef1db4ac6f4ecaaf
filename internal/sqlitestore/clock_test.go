package sqlitestore

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const month = 30 * 24 * time.Hour

// jumps are the distances by which a clock goes wrong.
var jumps = map[string]time.Duration{
	"an hour ahead": time.Hour, "an hour back": -time.Hour, "a month ahead": month, "a month back": -month,
}

// clocked returns three values: a store in memory, its clock and its options. The
// test can move the clock.
func clocked(t *testing.T) (*Store, *fakeClock, Options) {
	t.Helper()
	c := &fakeClock{}
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now}
	return opened(t, o), c, o
}

// TestWallClockDoesNotJudgeExpiry checks that the default clock of the store has a
// monotonic reading. Such a reading does not follow changes of the system's clock,
// for example by NTP or when a machine resumes. So these changes neither end a
// reservation nor make it live longer.
func TestWallClockDoesNotJudgeExpiry(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 1)
	charge := reserveAll(t, s, o, 1)[0]
	u, err := parseID(chargePrefix, charge)
	if err != nil {
		t.Fatal(err)
	}
	s.books.mu.Lock()
	expires := s.books.holds[u].expires
	s.books.mu.Unlock()
	if expires == expires.Round(0) { // Round strips the monotonic reading
		t.Errorf("expiry %s is judged by the wall clock", expires)
	}
}

// TestClockJumpsWithHolds checks reservations when the clock that decides about expiry
// jumps. A reservation made before the jump is captured once or released. A reservation
// made after the jump lives as long as any other. The account never spends more than it
// has.
func TestClockJumpsWithHolds(t *testing.T) {
	t.Parallel()
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, options := clocked(t)
			o := pair(t, s, 4)
			ids := reserveAll(t, s, o, 4)
			c.advance(jump)
			if jump > 0 { // all reservations have expired, so that their credits are available again
				if p := balanceOf(t, s, o.Account); s.OpenReservations() != 0 {
					t.Fatalf("%d reservations are open, balance %+v", s.OpenReservations(), p)
				}
				ids = append(ids, reserveAll(t, s, o, 1)...)
			} else if _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{}); !errors.Is(err, ledger.ErrInsufficient) {
				t.Fatalf("a fifth reservation on a balance for four: %v", err)
			}
			took := map[string]error{}
			for _, id := range append(ids, ids...) { // capture each id twice
				_, _, err := s.Capture(t.Context(), id, nil)
				if before, again := took[id]; again && before == nil && err != nil {
					t.Errorf("%s was captured, and then %v", id, err)
				}
				took[id] = err
			}
			captured := 0
			for id, err := range took {
				switch {
				case err == nil:
					captured++
				case !errors.Is(err, ledger.ErrInsufficient):
					t.Errorf("capture of %s: %v", id, err)
				}
			}
			if p := balanceOf(t, s, o.Account); captured != 4 || p != (ledger.Balance{}) {
				t.Errorf("%d captures on a balance for four, balance %+v", captured, p)
			}
			topUp(t, s, o.Account, 1)
			late := reserveAll(t, s, o, 1)[0]
			c.advance(ledger.ReservationLife - time.Second)
			if err := s.Renew(t.Context(), late); err != nil {
				t.Errorf("a reservation after the jump ended early: %v", err)
			}
			c.advance(ledger.ReservationLife + time.Second)
			if n := s.OpenReservations(); n != 0 {
				t.Errorf("%d reservations outlived their time after the jump", n)
			}
			clean(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			c.advance(-jump)
			clean(t, opened(t, options))
		})
	}
}

// TestHoldsOfAnEarlierClockAreSwept checks reservations made before and after the clock
// went back. The store must keep all of them in the order of their expiry. Otherwise a
// reservation that expires late would delay the end of the reservations behind it.
func TestHoldsOfAnEarlierClockAreSwept(t *testing.T) {
	t.Parallel()
	s, c, _ := clocked(t)
	o := pair(t, s, 100)
	reserveAll(t, s, o, 3)
	c.advance(-month)
	reserveAll(t, s, o, 5)
	c.advance(-time.Hour)
	reserveAll(t, s, o, 7)
	for _, step := range []struct {
		wait time.Duration
		open int
	}{
		{0, 15}, {ledger.ReservationLife + time.Second, 8}, {time.Hour, 3}, {month, 0},
	} {
		c.advance(step.wait)
		if n := s.OpenReservations(); n != step.open {
			t.Errorf("%s later %d reservations are open, want %d", step.wait, n, step.open)
		}
	}
	if p := balanceOf(t, s, o.Account); p != (ledger.Balance{Posted: 100}) {
		t.Errorf("balance is %+v", p)
	}
}

// TestExpiryRacesCapture checks promises 3 and 4 of docs/promises.md while the clock
// jumps back and forth under callers that reserve, renew, capture twice and release.
// The account spends no more than it has, each capture is made once, and in the end no
// credits are held.
func TestExpiryRacesCapture(t *testing.T) {
	t.Parallel()
	const callers, calls, funds = 32, 40, 600
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s, c, _ := clocked(t)
	o := pair(t, s, funds)
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moving.Go(func() {
		random := rand.New(rand.NewPCG(seed, callers))
		by := []time.Duration{ledger.ReservationLife + time.Second, time.Hour, -time.Hour, month, -month}
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				c.advance(by[random.IntN(len(by))])
			}
		}
	})
	var mu sync.Mutex
	took := map[string]bool{}
	var group sync.WaitGroup
	for i := range callers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			for range calls {
				charge := newID("chg_")
				ok, err := racingCall(s, o, charge, random.IntN(4))
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					mu.Lock()
					took[charge] = true
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	close(stop)
	moving.Wait()
	c.advance(100 * 12 * month) // move the clock to a time later than any that it has shown so far
	if n := s.OpenReservations(); n != 0 {
		t.Errorf("%d reservations are open", n)
	}
	if want := (ledger.Balance{Posted: funds - ledger.Amount(len(took))}); balanceOf(t, s, o.Account) != want || want.Posted < 0 {
		t.Errorf("balance is %+v after %d captures of %d", balanceOf(t, s, o.Account), len(took), funds)
	}
	if v := clean(t, s); v.Transactions != int64(len(took))+1 {
		t.Errorf("the journal has %d transactions, want %d", v.Transactions, len(took)+1)
	}
	t.Logf("%d of %d calls captured", len(took), callers*calls)
}

// racingCall makes one call and reports whether its charge was captured. It returns
// only errors that the races do not explain.
func racingCall(s *Store, o ledger.Order, charge string, what int) (bool, error) {
	ctx := context.Background()
	if _, err := s.Reserve(ctx, charge, o, ledger.Terms{}); err != nil {
		return false, expected(err, ledger.ErrInsufficient)
	}
	if what == 0 {
		return false, expected(s.Release(ctx, charge))
	}
	if what == 1 {
		if err := s.Renew(ctx, charge); err != nil && !errors.Is(err, ledger.ErrSettled) {
			return false, err
		}
	}
	if _, _, err := s.Capture(ctx, charge, nil); err != nil {
		return false, expected(err, ledger.ErrInsufficient) // the reservation expired, and other calls took the credits
	}
	_, _, err := s.Capture(ctx, charge, nil)
	return true, err
}

// expected returns err, or nil if err is one of the given errors.
func expected(err error, may ...error) error {
	for _, m := range may {
		if errors.Is(err, m) {
			return nil
		}
	}
	return err
}
