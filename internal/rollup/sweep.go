package rollup

import (
	"math"
	"sync"
	"time"
)

// HoursKept is the minimum time for which hourly sums are kept. It is longer than a
// year, so that an hour can be compared with the same hour a year before. Daily and
// monthly sums are kept for ever.
const HoursKept = 400 * 24 * time.Hour

const (
	// SweepStep is the number of rows that one step of a Sweep reads. It is small,
	// because a step may have to delete all of them.
	SweepStep = 500
	// sweepRest is the pause after a Sweep has read all rows.
	sweepRest = time.Hour
)

// hourViews are the numbers of the views with hourly sums.
var hourViews = func() (all []int64) {
	for _, p := range projections {
		if p.hours {
			all = append(all, viewOf(p, hours, false), viewOf(p, hours, true))
		}
	}
	return all
}()

// Sweep walks through the hourly sums to find those that are too old. It must read
// all of them, because they are not sorted by time: reports need them in another order.
// A Sweep is safe for concurrent use.
type Sweep struct {
	mu    sync.Mutex
	view  int // index in hourViews
	after Key
	rest  time.Time // until this time, Step returns no keys
}

// Step reads the next rows and returns the keys of the rows to delete. It also returns
// the time, in microseconds since 1970, before which hourly sums are deleted. Step
// calls read with a key. The call must return the keys of the same view that follow
// this key, in ascending order and at most SweepStep of them.
func (w *Sweep) Step(now time.Time, read func(after Key) ([]Key, error)) (expired []Key, from int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Before(w.rest) {
		return nil, 0, nil
	}
	if w.after.View != hourViews[w.view] {
		w.after = Key{View: hourViews[w.view], Subject: math.MinInt64, Bucket: math.MinInt64, X: math.MinInt64, Y: math.MinInt64, Z: math.MinInt64}
	}
	rows, err := read(w.after)
	if err != nil {
		return nil, 0, err
	}
	from = now.UTC().Truncate(24 * time.Hour).Add(-HoursKept).UnixMicro()
	for _, k := range rows {
		if k.Bucket < hours.bucketOf(from) {
			expired = append(expired, k)
		}
	}
	if len(rows) == SweepStep {
		w.after = rows[len(rows)-1]
		return expired, from, nil
	}
	if w.view++; w.view == len(hourViews) {
		w.view, w.rest = 0, now.Add(sweepRest)
	}
	return expired, from, nil
}
