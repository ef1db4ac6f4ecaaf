package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// ErrSlow says that a body arrived more slowly than its least rate.
var ErrSlow = errors.New("the body came too slowly")

// Source sets the read deadline of a body's connection, like
// http.ResponseController. SetReadDeadline is also called from other goroutines. Its
// errors are ignored: a source without deadlines has bounds of its own.
type Source interface {
	SetReadDeadline(time.Time) error
}

// Body configures the reading of a body.
type Body struct {
	Length int64 // announced length, or -1. No memory is taken in advance for it
	Source Source
	Time   time.Duration // bound on the whole body
	Rate   int64         // least bytes per second, over each Window
}

const (
	// Window is the number of bytes over which a rate is measured: each window of a
	// body, and the rest after the last one, must arrive in the time that Rate gives
	// a window.
	Window     = 64 << 10
	firstChunk = 16 << 10
	leastChunk = 512
	mostChunk  = 1 << 20
)

// DefaultRate is the least rate of bodies: each 64 KiB within 8 seconds.
const DefaultRate = 8 << 10

// ReadAll reads a whole body. The allocation holds the memory of the body, which is
// taken as the bytes arrive. The caller gives it back, also after an error. After
// an error the deadline stays set, so that nothing waits for the unread rest. A
// body that needs more than its first read can be cut. Errors are those of the
// source, ErrSlow, or a RefusedError.
func (c *Allocation) ReadAll(from io.Reader, o Body) ([]byte, error) {
	began := clock.Now()
	last := began.Add(o.Time)
	slowest := min(o.Time, time.Duration(Window/float64(o.Rate)*float64(time.Second)))
	_ = o.Source.SetReadDeadline(clock.Deadline(slowest))
	defer c.Keep() // so that a cut does not set the deadline after this returns

	size := max(min(o.Length, firstChunk), leastChunk-1) + 1
	taken := size > leastChunk // do not count less than that before the first byte
	if taken {
		if err := c.Take(size); err != nil {
			return nil, err
		}
	}
	body, window := make([]byte, 0, size), Window
	for first := true; ; first = false {
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if !taken && n > 0 {
			taken = true
			if full := c.Take(size); full != nil {
				return nil, full
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if c.Keep(); c.WasCut() {
				return nil, &RefusedError{Cut}
			}
			_ = o.Source.SetReadDeadline(time.Time{})
			return body, nil
		case err != nil && c.WasCut():
			return nil, &RefusedError{Cut}
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("%w: %w", ErrSlow, err)
		case err != nil:
			return nil, err
		case first && int64(len(body)) != o.Length:
			c.Cuttable(func() { _ = o.Source.SetReadDeadline(time.Unix(1, 0)) })
		}
		if len(body) >= window {
			window = len(body) + Window
			_ = o.Source.SetReadDeadline(clock.Deadline(min(slowest, clock.Until(last))))
			if c.WasCut() { // the line above may have replaced the cut's deadline
				return nil, &RefusedError{Cut}
			}
		}
		if body, err = c.grow(body, o.Length); err != nil {
			return nil, err
		}
	}
}

// grow makes room in a full body, up to its announced length if there is one.
func (c *Allocation) grow(body []byte, length int64) ([]byte, error) {
	if len(body) < cap(body) {
		return body, nil
	}
	before := cap(body)
	more := min(before, mostChunk)
	if rest := length + 1 - int64(before); rest > 0 {
		more = int(min(int64(more), rest))
	}
	if err := c.Take(int64(more)); err != nil {
		return nil, err
	}
	body = slices.Grow(body, more)
	if extra := cap(body) - before - more; extra > 0 { // the allocator rounds up to size classes
		if err := c.Take(int64(extra)); err != nil {
			return nil, err
		}
	}
	return body, nil
}
