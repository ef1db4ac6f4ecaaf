package scrape

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// startTime is the name of a gauge that Prometheus' client libraries export. Its value
// is the time at which the process started, in seconds since 1970, by the clock of the
// operating system.
const startTime = "process_start_time_seconds"

// Interval is the time between two scrapes of one server. If the server restarted in
// between, its counters began again at 0, and the increase of each counter is its value
// in the second scrape.
type Interval struct {
	From *Sample // the first scrape; nil if there was only one, and then increases are unknown
	To   *Sample
}

// Started returns the time at which the scraped process started, or false if the scrape
// does not contain that time.
func (s *Sample) Started() (time.Time, bool) {
	at, ok := s.Sum(startTime, nil)
	if !ok || at <= 0 {
		return time.Time{}, false
	}
	// The gauge has the time of the operating system's clock. In tests, the clock of
	// this process may be shifted.
	return time.UnixMicro(int64(at * 1e6)).Add(clock.Shift()), true
}

// Restarted reports whether the two scrapes came from processes that started at
// different times. It returns false if there is no first scrape, or if one of the
// scrapes does not contain the start time.
func (i Interval) Restarted() bool {
	if i.From == nil {
		return false
	}
	from, ok := i.From.Started()
	to, also := i.To.Started()
	return ok && also && !from.Equal(to)
}

// Seconds returns the time during which the increases happened. That is the length of
// the interval or, after a restart, the age of the process if the process is younger.
// The bool is false if there is no first scrape.
func (i Interval) Seconds() (float64, bool) {
	if i.From == nil {
		return 0, false
	}
	length := i.To.At.Sub(i.From.At)
	if started, ok := i.To.Started(); ok && i.Restarted() {
		if age := i.To.At.Sub(started); age > 0 {
			length = min(length, age)
		}
	}
	return length.Seconds(), length > 0
}

// SinceStart returns the interval from the start of the scraped process, when all
// counters were 0, to the scrape. If the scrape does not contain the time of the start,
// the interval has no first scrape.
func SinceStart(s *Sample) Interval {
	started, ok := s.Started()
	if !ok || !started.Before(s.At) {
		return Interval{To: s}
	}
	return Interval{From: &Sample{At: started}, To: s}
}

// Increased is a series with its increase during an interval.
type Increased struct {
	Series
	Increase float64
}

// Increases returns the counters with the given name, each with its increase. If a
// counter has decreased since the first scrape, it has begun again at 0. A counter that
// is not in the first scrape also began at 0. The increase of such counters is their
// value. Without a first scrape, all increases are 0.
func (i Interval) Increases(name string) []Increased {
	var before []Series
	if i.From != nil && !i.Restarted() {
		before = i.From.series[name]
	}
	all := make([]Increased, 0, len(i.To.series[name]))
	for _, s := range i.To.series[name] {
		increase := s.Value
		at, found := slices.BinarySearchFunc(before, s.id, func(b Series, id string) int { return strings.Compare(b.id, id) })
		switch {
		case i.From == nil:
			increase = 0
		case found && before[at].Value <= s.Value:
			increase = s.Value - before[at].Value
		}
		all = append(all, Increased{s, increase})
	}
	return all
}

// Increase returns the sum of the increases of the counters that have the given name
// and labels. It returns false if there is no such counter, or no first scrape.
func (i Interval) Increase(name string, where Labels) (sum float64, ok bool) {
	if i.From == nil {
		return 0, false
	}
	for _, s := range i.Increases(name) {
		if where.match(&s.Series) {
			sum, ok = sum+s.Increase, true
		}
	}
	return sum, ok
}

// Rate returns the increase per second of the counters that have the given name and
// labels. It returns false if Seconds or Increase does.
func (i Interval) Rate(name string, where Labels) (float64, bool) {
	seconds, measured := i.Seconds()
	increase, ok := i.Increase(name, where)
	if !measured || !ok {
		return 0, false
	}
	return increase / seconds, true
}

// Mean returns the mean of the observations that were made during the interval. It uses
// the histograms or summaries that have the given name and labels. It returns false if
// there were no observations.
func (i Interval) Mean(name string, where Labels) (float64, bool) {
	count, _ := i.Increase(name+"_count", where)
	sum, ok := i.Increase(name+"_sum", where)
	if !ok || count <= 0 {
		return 0, false
	}
	return sum / count, true
}

// Quantile estimates a quantile of the observations that were made during the interval.
// It uses the histograms that have the given name and labels, which must all have the
// same buckets. Like histogram_quantile in Prometheus, Quantile assumes that
// observations are spread evenly within a bucket. If the quantile is greater than the
// highest finite bound, Quantile returns that bound. The bool is false if there were no
// observations.
func (i Interval) Quantile(q float64, name string, where Labels) (float64, bool) {
	counts := make(map[float64]float64) // for each bound, the number of observations that are at most the bound
	if i.From == nil {
		return 0, false
	}
	for _, s := range i.Increases(name + "_bucket") {
		bound, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err == nil && where.match(&s.Series) {
			counts[bound] += s.Increase
		}
	}
	total := counts[math.Inf(1)]
	if total <= 0 {
		return 0, false
	}
	lower, below := 0.0, 0.0
	for _, bound := range slices.Sorted(maps.Keys(counts)) {
		count := counts[bound]
		switch {
		case count < q*total:
			lower, below = bound, count
		case math.IsInf(bound, 1):
			return lower, true
		case count == below:
			return lower, true
		default:
			return lower + (bound-lower)*(q*total-below)/(count-below), true
		}
	}
	return lower, true
}
