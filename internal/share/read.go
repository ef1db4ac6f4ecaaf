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

// ErrSlow says that a body came more slowly than it must.
var ErrSlow = errors.New("the body came too slowly")

// Source is what a body comes from, as far as its deadlines go; it is as
// http.ResponseController. SetReadDeadline is called from other goroutines, too.
// Its errors do not matter: a source without deadlines has bounds of its own.
type Source interface {
	SetReadDeadline(time.Time) error
}

// Body says how a body is read.
type Body struct {
	Length int64 // that is announced; below 0 for none. Nothing is taken for it
	Source Source
	Time   time.Duration // for all of it
	Rate   int64         // bytes a second at least, over each Window
}

const (
	// Window is over how many bytes a rate is measured: each of a body's windows,
	// and its rest, must come within as long as the rate gives it.
	Window     = 64 << 10
	firstChunk = 16 << 10
	leastChunk = 512
	mostChunk  = 1 << 20
)

// DefaultRate is the least rate of bodies: each 64 KiB within 8 seconds.
const DefaultRate = 8 << 10

// ReadAll reads all of a body. The claim holds the memory that the body has,
// which is taken as the bytes come. What is held when it returns is the
// caller's to give back, also with an error; then the deadline stays, since what
// was not read must not be waited for. A body that needs more than its
// first read can be cut. Errors are those of the source, ErrSlow, or a
// RefusedError.
func (c *Allocation) ReadAll(from io.Reader, o Body) ([]byte, error) {
	began := clock.Now()
	last := began.Add(o.Time)
	slowest := min(o.Time, time.Duration(Window/float64(o.Rate)*float64(time.Second)))
	_ = o.Source.SetReadDeadline(clock.Deadline(slowest))
	defer c.Keep() // so that nothing sets the deadline afterwards

	size := max(min(o.Length, firstChunk), leastChunk-1) + 1
	taken := size > leastChunk // less is not worth counting before something came
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
			if c.WasCut() { // it may have been, before the deadline was set anew
				return nil, &RefusedError{Cut}
			}
		}
		if body, err = c.grow(body, o.Length); err != nil {
			return nil, err
		}
	}
}

// grow makes room in a body that is full; no more than it needs if its length
// was announced.
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
	if extra := cap(body) - before - more; extra > 0 { // of the allocator's size classes
		if err := c.Take(int64(extra)); err != nil {
			return nil, err
		}
	}
	return body, nil
}
