package clock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestShift checks that a linked shift is parsed as a duration, and that an invalid
// shift causes a panic.
func TestShift(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "8760h": 8760 * time.Hour, "-1m30s": -90 * time.Second} {
		if got := parse(text); got != want {
			t.Errorf("a shift of %q is %v, want %v", text, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a shift that is not a duration was accepted")
		}
	}()
	parse("a year")
}

// TestNow checks that Now, Since and Until agree with each other under any shift,
// and that deadlines follow the clock of the operating system.
func TestNow(t *testing.T) {
	defer func(was time.Duration) { ahead = was }(ahead)
	for _, by := range []time.Duration{0, 365 * 24 * time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ahead = by
			start := Now()
			if got := time.Until(start); got != by || Shift() != by {
				t.Errorf("ahead by %v, want %v", got, by)
			}
			time.Sleep(time.Minute)
			if got := Since(start); got != time.Minute {
				t.Errorf("a minute lasted %v", got)
			}
			if got := Until(start.Add(time.Hour)); got != 59*time.Minute {
				t.Errorf("59 minutes are left, not %v", got)
			}
			if got := time.Until(Deadline(time.Second)); got != time.Second {
				t.Errorf("a deadline in a second is %v away on the system's clock", got)
			}
		})
	}
}

// TestSleep checks that Sleep lasts as long as requested or until its context ends,
// and that SleepOr also ends when it is woken.
func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		never, woken := make(chan struct{}), make(chan struct{}, 1)
		woken <- struct{}{}
		for _, c := range []struct {
			sleep func() error
			lasts time.Duration
			err   error
		}{
			{func() error { return Sleep(ctx, 10*time.Second) }, 10 * time.Second, nil},
			{func() error { return SleepOr(ctx, 10*time.Second, never) }, 10 * time.Second, nil},
			{func() error { return SleepOr(ctx, 10*time.Second, woken) }, 0, nil},
			{func() error { return Sleep(ctx, time.Hour) }, 40 * time.Second, context.DeadlineExceeded},
			{func() error { return SleepOr(ctx, time.Hour, never) }, 0, context.DeadlineExceeded},
		} {
			began := Now()
			if err := c.sleep(); !errors.Is(err, c.err) || Since(began) != c.lasts {
				t.Errorf("%v after %v, want %v after %v", err, Since(began), c.err, c.lasts)
			}
		}
	})
}
