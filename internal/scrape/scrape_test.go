package scrape

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/clock"
)

// start is the beginning of the tests, by the clock of the process that scrapes.
var start = time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC).Add(clock.Shift())

// at parses a scrape that was made some seconds after the start.
func at(t *testing.T, seconds float64, text string) *Sample {
	t.Helper()
	s, err := Parse(strings.NewReader(text), start.Add(time.Duration(seconds*float64(time.Second))))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestParse checks that counters, gauges, histograms and summaries become series, and
// that the error for a text in another format contains the wrong line.
func TestParse(t *testing.T) {
	s := at(t, 0, `# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{server="a",tool="x\"\n\\y"} 3
calls_total{server="b"} 4.5
# TYPE up gauge
up 1
# TYPE took_seconds histogram
took_seconds_bucket{le="0.1"} 2
took_seconds_bucket{le="+Inf"} 5
took_seconds_sum 7
took_seconds_count 5
# TYPE each_seconds summary
each_seconds{quantile="0.5"} 9
each_seconds_sum{tool="x"} 8
each_seconds_count{tool="x"} 4
free_text 6
`)
	for name, want := range map[string]float64{
		"calls_total": 7.5, "up": 1, "took_seconds_bucket": 7, "took_seconds_sum": 7, "took_seconds_count": 5,
		"each_seconds_sum": 8, "each_seconds_count": 4, "free_text": 6,
	} {
		if got, ok := s.Sum(name, nil); !ok || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, ok, want)
		}
	}
	if got, ok := s.Sum("calls_total", Labels{"tool": "x\"\n\\y"}); !ok || got != 3 {
		t.Errorf("the series with an escaped label: %v, %v", got, ok)
	}
	if _, ok := s.Sum("calls_total", Labels{"server": "c"}); ok || s.Has("each_seconds") || s.Has("none") {
		t.Error("a series was found that is not there")
	}
	if !s.HasPrefix("calls") || s.HasPrefix("farebox_") {
		t.Error("HasPrefix is wrong")
	}
	for _, text := range []string{"calls_total{", "<html>", "calls_total x\n", "{\"error\": \"no\"}\n"} {
		if _, err := Parse(strings.NewReader("up 1\n"+text), start); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v, want an error about line 2", text, err)
		}
	}
}

// TestIncreases checks the increases of three counters: one that continued, one that
// began again at 0, and a new one.
func TestIncreases(t *testing.T) {
	i := Interval{
		From: at(t, 0, "n{a=\"goes on\"} 10\nn{a=\"began again\"} 10\nn{a=\"is gone\"} 10\n"),
		To:   at(t, 2, "n{a=\"goes on\"} 14\nn{a=\"began again\"} 3\nn{a=\"new\"} 1\n"),
	}
	want := map[string]float64{"goes on": 4, "began again": 3, "new": 1}
	increases := i.Increases("n")
	for _, s := range increases {
		if s.Increase != want[s.Labels["a"]] {
			t.Errorf("%s: %v", s.Labels["a"], s.Increase)
		}
	}
	if len(increases) != len(want) {
		t.Errorf("%d counters, want %d", len(increases), len(want))
	}
	if got, ok := i.Rate("n", nil); !ok || got != 4 {
		t.Errorf("rate %v, %v; want 4", got, ok)
	}
	if got, ok := i.Rate("n", Labels{"a": "goes on"}); !ok || got != 2 {
		t.Errorf("rate %v, %v; want 2", got, ok)
	}
	if _, ok := i.Rate("none", nil); ok {
		t.Error("a counter that is not there has a rate")
	}
	for _, i := range []Interval{{To: i.To}, {From: i.To, To: i.To}} {
		if got, ok := i.Rate("n", nil); ok {
			t.Errorf("rate %v without an interval", got)
		}
	}
}

// TestRestart checks that the increase of a counter after a restart is its value, even
// if the counter is greater than before the restart. The time of the increases must be
// the age of the new process.
func TestRestart(t *testing.T) {
	unix := start.Add(-clock.Shift()).Unix() // the start of the tests, by the clock of the operating system
	text := func(started int64, n string) string {
		return "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds " + strconv.FormatInt(started, 10) + "\nn " + n + "\n"
	}
	i := Interval{From: at(t, 0, text(unix-100, "10")), To: at(t, 60, text(unix+56, "12"))}
	if increase, _ := i.Increase("n", nil); !i.Restarted() || increase != 12 {
		t.Errorf("restarted %v, increase %v; want 12", i.Restarted(), increase)
	}
	if seconds, ok := i.Seconds(); !ok || seconds != 4 {
		t.Errorf("%v seconds, want 4", seconds)
	}
	same := Interval{From: at(t, 0, text(unix-100, "10")), To: at(t, 60, text(unix-100, "12"))}
	if increase, _ := same.Increase("n", nil); same.Restarted() || increase != 2 {
		t.Errorf("the same process: restarted %v, increase %v", same.Restarted(), increase)
	}
	if seconds, ok := same.Seconds(); !ok || seconds != 60 {
		t.Errorf("%v seconds, want 60", seconds)
	}
}

// TestQuantile compares quantiles with those that histogram_quantile of Prometheus
// gives for the same buckets.
func TestQuantile(t *testing.T) {
	before := at(t, 0, histogram(100, 100, 100, 100))
	for _, c := range []struct {
		after [4]float64 // the numbers of observations that are at most 0.1, 0.2, 0.4 and infinity
		q     float64
		want  float64
		ok    bool
	}{
		{[4]float64{100, 100, 100, 100}, .5, 0, false},  // no observation between the scrapes
		{[4]float64{110, 110, 110, 110}, .5, .05, true}, // the first bucket begins at 0
		{[4]float64{100, 110, 110, 110}, .5, .15, true},
		{[4]float64{100, 110, 120, 120}, .75, .3, true},
		{[4]float64{100, 110, 120, 120}, .5, .2, true},
		{[4]float64{100, 100, 100, 110}, .99, .4, true}, // the quantile is greater than the highest finite bound
		{[4]float64{110, 110, 110, 120}, .25, .05, true},
	} {
		i := Interval{From: before, To: at(t, 2, histogram(c.after[:]...))}
		if got, ok := i.Quantile(c.q, "took", nil); ok != c.ok || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v of %v: %v, %v; want %v, %v", c.q, c.after, got, ok, c.want, c.ok)
		}
	}
	if _, ok := (Interval{To: before}).Quantile(.5, "took", nil); ok {
		t.Error("a single scrape has a quantile")
	}
}

// TestQuantileOfSeveral checks that the buckets of several histograms are added up.
func TestQuantileOfSeveral(t *testing.T) {
	labeled := func(server string, first, all string) string {
		return "took_bucket{server=\"" + server + "\",le=\"1\"} " + first + "\ntook_bucket{server=\"" + server + "\",le=\"2\"} " + all +
			"\ntook_bucket{server=\"" + server + "\",le=\"+Inf\"} " + all + "\ntook_sum{server=\"" + server + "\"} 0\ntook_count{server=\"" + server + "\"} " + all + "\n"
	}
	const kind = "# TYPE took histogram\n"
	i := Interval{From: at(t, 0, kind+labeled("a", "0", "0")), To: at(t, 1, kind+labeled("a", "10", "10")+labeled("b", "0", "10"))}
	for server, want := range map[string]float64{"a": .5, "b": 1.5} {
		if got, ok := i.Quantile(.5, "took", Labels{"server": server}); !ok || got != want {
			t.Errorf("%s: %v, %v; want %v", server, got, ok, want)
		}
	}
	if got, ok := i.Quantile(.75, "took", nil); !ok || got != 1.5 {
		t.Errorf("all: %v, %v; want 1.5", got, ok)
	}
}

// TestMean checks the mean of the observations of an interval.
func TestMean(t *testing.T) {
	i := Interval{From: at(t, 0, "took_sum 10\ntook_count 100\n"), To: at(t, 1, "took_sum 16\ntook_count 104\n")}
	if got, ok := i.Mean("took", nil); !ok || got != 1.5 {
		t.Errorf("%v, %v; want 1.5", got, ok)
	}
	if got, ok := (Interval{From: i.To, To: i.To}).Mean("took", nil); ok {
		t.Errorf("%v without an observation", got)
	}
}

// histogram returns a histogram with the bounds 0.1, 0.2, 0.4 and infinity.
func histogram(counts ...float64) string {
	text := "# TYPE took histogram\n"
	for i, bound := range []string{"0.1", "0.2", "0.4", "+Inf"} {
		text += "took_bucket{le=\"" + bound + "\"} " + strconv.FormatFloat(counts[i], 'f', -1, 64) + "\n"
	}
	return text + "took_sum 0\ntook_count " + strconv.FormatFloat(counts[3], 'f', -1, 64) + "\n"
}

// TestGather checks that Gather returns the same series as a scrape of this process.
// The series include the bucket with the bound +Inf, which the registry leaves out.
func TestGather(t *testing.T) {
	registry := prometheus.NewRegistry()
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{1, 2}})
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "calls_total"})
	registry.MustRegister(histogram, counter)
	for _, v := range []float64{.5, 1.5, 3} {
		histogram.Observe(v)
	}
	counter.Add(7)
	at := time.Unix(1000, 0)
	s, err := Gather(registry, at)
	if err != nil || !s.At.Equal(at) {
		t.Fatal(s, err)
	}
	i := Interval{From: &Sample{At: at.Add(-time.Minute)}, To: s}
	if n, ok := i.Increase("calls_total", nil); !ok || n != 7 {
		t.Errorf("%v calls, %t", n, ok)
	}
	if q, ok := i.Quantile(.99, "took_seconds", nil); !ok || q != 2 {
		t.Errorf("the quantile is %v, %t", q, ok)
	}
	if n, ok := i.Increase("took_seconds_bucket", Labels{"le": "+Inf"}); !ok || n != 3 {
		t.Errorf("%v observations, %t", n, ok)
	}
}
