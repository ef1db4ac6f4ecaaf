// Package clock is the only package of Farebox that reads the time or sleeps.
//
// Tests run whole programs at another date by linking them with a shift:
//
//	go test -ldflags "-X github.com/fareboxhq/farebox/internal/clock.shift=8760h" ./...
//
// Stores, caches, sealing keys, receipts and ids then move together. A release
// is linked without a shift, and a shift cannot be set at run time.
package clock

import (
	"context"
	"fmt"
	"time"
)

// shift is the duration by which the time of Now is ahead of the operating system's
// clock, as in "8760h". Only the linker sets it. If it is empty, Now is not ahead.
var shift string

var ahead = parse(shift)

func parse(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(fmt.Sprintf("clock.shift %q, set by -ldflags -X, is not a duration such as 8760h", s))
	}
	return d
}

// Now returns the time, with a monotonic reading. It is safe for concurrent use.
func Now() time.Time { return time.Now().Add(ahead) }

// Since returns the time elapsed since t, by the monotonic reading if t has one.
func Since(t time.Time) time.Duration { return time.Since(t.Add(-ahead)) }

// Until returns the duration until t, by the monotonic reading if t has one.
func Until(t time.Time) time.Duration { return time.Until(t.Add(-ahead)) }

// Shift returns the duration by which Now is ahead of the clock of the operating
// system. It is zero except in tests. A store needs it to compare Now with the clock of
// its database.
func Shift() time.Duration { return ahead }

// Deadline returns the time of the operating system's clock plus d. It is for the
// deadlines of connections and contexts, which use that clock.
func Deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// Sleep pauses for d. If ctx ends first, Sleep returns the error of ctx at once.
func Sleep(ctx context.Context, d time.Duration) error { return SleepOr(ctx, d, nil) }

// SleepOr is like Sleep, but also returns nil as soon as the channel is closed or has a
// value. A nil channel has no effect.
func SleepOr(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
