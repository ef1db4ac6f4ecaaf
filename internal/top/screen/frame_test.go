package screen

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/scrape"
	"github.com/fareboxhq/farebox/internal/top"
)

var update = flag.Bool("update", false, "write the frames of today into testdata")

// start is the time of the first sample. It is shifted by the same duration as the
// clock of this process.
var start = time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC).Add(clock.Shift())

// sampleOf parses a scrape that was made the given time after the first sample. If the
// text ends in ".prom", it is the name of a file with the scrape, in the testdata of
// package top.
func sampleOf(t testing.TB, at time.Duration, text string) *scrape.Sample {
	t.Helper()
	if strings.HasSuffix(text, ".prom") {
		file, err := os.ReadFile(filepath.Join("..", "testdata", text))
		if err != nil {
			t.Fatal(err)
		}
		text = string(file)
	}
	s, err := scrape.Parse(strings.NewReader(text), start.Add(at))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// busy returns the screen of a busy gateway.
func busy(t testing.TB, width, height int) Screen {
	s := Screen{Width: width, Height: height, Interval: 2 * time.Second}
	s.View = top.New("localhost:2019", scrape.Interval{From: sampleOf(t, 0, "first.prom"), To: sampleOf(t, 10*time.Second, "second.prom")})
	*s.View.Store.LedgerVerifiedAt = start.Add(-3 * time.Hour) // replaces the fixed date in the file
	for i := range 90 {
		x := float64(i)
		s.Requests = append(s.Requests, 150+60*math.Sin(x/7)+20*math.Sin(x*2))
		s.Money = append(s.Money, 300+250*math.Sin(x/11))
	}
	s.Requests[80] = math.NaN() // as if the gateway had not answered
	return s
}

var timeOfDay = regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`)

// unshifted moves the times of day in a frame back by the shift of the process clock.
// The frame then has the same times as the golden files.
func unshifted(t *testing.T, frame string) string {
	t.Helper()
	return timeOfDay.ReplaceAllStringFunc(frame, func(text string) string {
		at, err := time.Parse(time.TimeOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return at.Add(-clock.Shift()).Format(time.TimeOnly)
	})
}

// golden compares a frame with a file, line by line.
func golden(t *testing.T, file, frame string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	lines := strings.Split(unshifted(t, ansi.Strip(frame)), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different; if that is right, run the test with -update. The frame:\n%s", path, got)
	}
}

// fits checks that a frame has as many lines as the screen, and that no line is wider
// than the screen.
func fits(t *testing.T, frame string, width, height int) {
	t.Helper()
	lines := strings.Split(frame, "\n")
	if len(lines) != height {
		t.Errorf("%dx%d: %d lines", width, height, len(lines))
	}
	for i, line := range lines {
		if got := ansi.StringWidth(line); got > width {
			t.Errorf("%dx%d: line %d is %d columns wide: %q", width, height, i+1, got, ansi.Strip(line))
		}
	}
	if !utf8.ValidString(frame) {
		t.Error("the frame is not UTF-8")
	}
}

// TestFrames compares frames of a busy gateway with golden files, for several sizes of
// the screen.
func TestFrames(t *testing.T) {
	for _, size := range [][2]int{{200, 50}, {120, 40}, {80, 24}, {60, 15}, {60, 60}} {
		s := busy(t, size[0], size[1])
		frame := s.Frame()
		fits(t, frame, size[0], size[1])
		golden(t, fmt.Sprintf("busy-%dx%d.txt", size[0], size[1]), frame)
	}
}

// TestFrameStates compares frames with golden files, for a gateway that does not
// answer, a paused screen, the help, and gateways with few metrics.
func TestFrameStates(t *testing.T) {
	gone := busy(t, 80, 24)
	gone.Gone = &Gone{Since: start.Add(time.Minute), Last: start.Add(time.Minute + 72*time.Second), Reason: "connection refused"}
	paused := busy(t, 80, 24)
	paused.Paused, paused.Order = true, 1
	help := busy(t, 80, 24)
	help.Help = true
	narrowHelp := busy(t, 40, 24)
	narrowHelp.Help = true
	fresh := busy(t, 80, 24)
	fresh.View = top.New("unix//run/farebox/admin.sock", scrape.Interval{To: sampleOf(t, 0, "farebox_store_up 1\nfarebox_build_info{version=\"v1.0.0\"} 1\n")})
	fresh.Requests, fresh.Money = nil, nil
	older := busy(t, 120, 40)
	older.View = top.New("localhost:2019", scrape.Interval{From: sampleOf(t, 0, "older.prom"), To: sampleOf(t, 10*time.Second, "older.prom")})
	older.Requests, older.Money = []float64{math.NaN(), math.NaN()}, []float64{math.NaN(), math.NaN()}
	for name, s := range map[string]Screen{"gone": gone, "paused": paused, "help": help, "help-narrow": narrowHelp, "fresh": fresh, "older": older} {
		frame := s.Frame()
		fits(t, frame, s.Width, s.Height)
		golden(t, name+".txt", frame)
	}
}

// TestAnySize draws frames in every small size and some large ones. It scrolls them,
// and draws each state of the screen. No frame may cause a panic or be larger than the
// screen.
func TestAnySize(t *testing.T) {
	s := busy(t, 0, 0)
	for _, gone := range []*Gone{nil, {Since: start, Last: start, Reason: "refused"}} {
		for _, help := range []bool{false, true} {
			s.Gone, s.Help = gone, help
			for _, width := range []int{1, 2, 10, 19, 33, 59, 91, 92, 149, 150, 400} {
				for _, height := range []int{1, 2, 3, 5, 10, 19, 20, 100} {
					s.Width, s.Height, s.Scroll = width, height, 3
					fits(t, s.Frame(), width, height)
				}
			}
		}
	}
}

// TestHostileNames checks that control characters in a name from the config cannot move
// the cursor or color the screen.
func TestHostileNames(t *testing.T) {
	const requests = "farebox_requests_total{server=\"a\x1b[2Jb\tc\",method=\"\x07\",decision=\"\x1b[31mCODE\"} "
	s := busy(t, 120, 40)
	s.View = top.New("localhost:2019\x1b]0;title\x07", scrape.Interval{From: sampleOf(t, 0, requests+"1\n"), To: sampleOf(t, time.Second, requests+"9\n")})
	frame := s.Frame()
	for _, forbidden := range []string{"\x1b[2J", "\x1b]", "\x1b[31mCODE", "\t", "\x07"} {
		if strings.Contains(frame, forbidden) {
			t.Errorf("the frame contains %q", forbidden)
		}
	}
	if !strings.Contains(frame, "a\ufffd[2Jb\ufffdc") {
		t.Error("the server is not shown")
	}
}

// TestText checks the text that "farebox top" prints once instead of a live screen. The
// text must have all lines and no curves, and must not be too wide. docs/top.md shows
// the same text without colors.
func TestText(t *testing.T) {
	s := busy(t, 100, 10)
	text := Text(s.View, 100)
	golden(t, "text.txt", strings.TrimSuffix(text, "\n"))
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "top.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```\n"+unshifted(t, ansi.Strip(text))+"```") {
		t.Error("docs/top.md shows another frame than testdata/text.txt")
	}
	for _, line := range strings.Split(text, "\n") {
		if ansi.StringWidth(line) > 100 {
			t.Errorf("a line is wider than the screen: %q", line)
		}
	}
	if strings.ContainsAny(text, "▂▅") {
		t.Error("a single look has a curve")
	}
}

// TestWordsBesideColors checks that each level of a notice, and a store that is down,
// are also shown by a word, for people that do not see colors.
func TestWordsBesideColors(t *testing.T) {
	s := busy(t, 120, 40)
	down := false
	s.View.Store.Up = &down
	s.View.Attention = []top.Notice{{Level: top.Critical, Text: "one"}, {Level: top.Warning, Text: "two"}, {Level: top.Note, Text: "three"}}
	frame := ansi.Strip(s.Frame())
	for _, want := range []string{"CRITICAL: one", "warning: two", "note: three", "store DOWN"} {
		if !strings.Contains(frame, want) {
			t.Errorf("the frame has no %q", want)
		}
	}
	s.View.Attention = nil
	if !strings.Contains(s.Frame(), "nothing needs attention") {
		t.Error("a frame without notices does not say so")
	}
}
