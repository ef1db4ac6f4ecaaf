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

// ErrSlow says that a body arrived more slowly than its minimum rate.
var ErrSlow = errors.New("the body came too slowly")

// Source sets the read deadline of a body's connection. http.ResponseController is a
// Source. SetReadDeadline may be called from several goroutines. Errors of
// SetReadDeadline are ignored: a source that does not support deadlines must have its
// own bounds.
type Source interface {
	SetReadDeadline(time.Time) error
}

// Body configures the reading of a body.
type Body struct {
	Length int64 // announced length, or -1; no memory is reserved for it in advance
	Source Source
	Time   time.Duration // the time limit for reading the whole body
	Rate   int64         // minimum bytes per second, measured over each Window; 0 for no minimum
}

const (
	// Window is the number of bytes over which the rate is measured. Each window of a
	// body, and the rest after the last window, must arrive in the time that a window
	// takes at the minimum rate.
	Window     = 64 << 10
	firstChunk = 16 << 10
	leastChunk = 512
	mostChunk  = 1 << 20
)

// DefaultRate is the default minimum rate of bodies: each 64 KiB within 8 seconds.
const DefaultRate = 8 << 10

// ReadAll reads a whole body. The allocation takes memory for the body as the bytes
// arrive. The caller must give this memory back, even after an error. After an error
// the deadline stays set, so that nothing waits for the unread rest. The allocation can
// be cut if the body needs more than one read. The error is ErrSlow, a RefusedError, or
// the error of the io.Reader.
func (c *Allocation) ReadAll(from io.Reader, o Body) ([]byte, error) {
	began := clock.Now()
	last := began.Add(o.Time)
	slowest := o.Time
	if o.Rate > 0 {
		slowest = min(o.Time, time.Duration(Window/float64(o.Rate)*float64(time.Second)))
	}
	_ = o.Source.SetReadDeadline(clock.Deadline(slowest))
	defer c.Keep() // afterwards no cut sets the read deadline

	size := max(min(o.Length, firstChunk), leastChunk-1) + 1
	taken := size > leastChunk // the smallest chunk is taken only when a byte arrives
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
			if c.WasCut() { // the line above may have replaced the deadline that the cut set
				return nil, &RefusedError{Cut}
			}
		}
		if body, err = c.grow(body, o.Length); err != nil {
			return nil, err
		}
	}
}

// grow makes room in a full body. If there is an announced length that the body has
// not exceeded, the room grows to that length at most.
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
	if extra := cap(body) - before - more; extra > 0 { // Grow may allocate more, because the allocator rounds up to size classes
		if err := c.Take(int64(extra)); err != nil {
			return nil, err
		}
	}
	return body, nil
}
