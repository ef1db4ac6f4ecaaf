package screen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/fareboxhq/farebox/internal/scrape"
)

// bench runs a model without a terminal, by calling Update with messages.
type bench struct {
	t     *testing.T
	model Model
	cmd   tea.Cmd
}

// newBench returns a bench with a model that has a terminal size and one sample.
func newBench(t *testing.T) *bench {
	ask := func(context.Context) (*scrape.Sample, error) { return sampleOf(t, 0, requests(0)), nil }
	b := &bench{t: t, model: newModel(t.Context(), "localhost:2019", 2*time.Second, sampleOf(t, 0, requests(0)), ask)}
	b.send(tea.WindowSizeMsg{Width: 120, Height: 40})
	return b
}

// requests returns a scrape with the given number of charged requests.
func requests(n int) string {
	return fmt.Sprintf("farebox_requests_total{server=\"a\",decision=\"charged\"} %d\n", n)
}

func (b *bench) send(msg tea.Msg) {
	b.t.Helper()
	model, cmd := b.model.Update(msg)
	b.model, b.cmd = model.(Model), cmd
}

func (b *bench) press(keys ...rune) {
	b.t.Helper()
	for _, key := range keys {
		msg := tea.KeyPressMsg{Code: key}
		if key >= ' ' && key < 0x7f {
			msg.Text = string(key)
		}
		b.send(msg)
	}
}

func (b *bench) frame() string { return ansi.Strip(b.model.View().Content) }

// asks reports whether the last message made the model request a sample.
func (b *bench) asks() bool { return b.model.asking && b.cmd != nil }

// TestRounds checks that the model requests a sample after each interval, shows it, and
// then waits again.
func TestRounds(t *testing.T) {
	b := newBench(t)
	if view := b.model.View(); !view.AltScreen || !strings.Contains(view.WindowTitle, "localhost:2019") {
		t.Errorf("the view is not a whole screen with a title: %+v", view)
	}
	if b.send(due{b.model.turn}); !b.asks() {
		t.Fatal("the model does not ask when it is time")
	}
	if b.send(due{b.model.turn}); b.cmd != nil {
		t.Error("the model asks again before it has an answer")
	}
	turn := b.model.turn
	b.send(sampled{sampleOf(t, 2*time.Second, requests(100))})
	if b.asks() || b.cmd == nil || b.model.turn == turn {
		t.Error("the model does not wait after an answer")
	}
	if frame := b.frame(); !strings.Contains(frame, "50.0/s") {
		t.Errorf("the rate is not shown:\n%s", frame)
	}
	if b.send(due{turn}); b.asks() {
		t.Error("a wait that is void made the model ask")
	}
}

// TestWindow checks that rates are those of the last ten seconds, and that curves have
// one point for each sample.
func TestWindow(t *testing.T) {
	b := newBench(t)
	for i := 1; i <= 30; i++ {
		n := 0
		if i > 10 {
			n = (i - 10) * 20 // ten requests a second, from the 20th second on
		}
		b.send(sampled{sampleOf(t, time.Duration(i)*2*time.Second, requests(n))})
	}
	s := b.model.screen
	if got := s.View.Requests.PerSecond; *got != 10 || *s.View.Seconds != 10 {
		t.Errorf("%v requests per second in %v seconds, want 10 in 10", *got, *s.View.Seconds)
	}
	if len(s.Requests) != 30 || s.Requests[9] != 0 || s.Requests[10] != 10 {
		t.Errorf("the curve is %v", s.Requests)
	}
	if len(b.model.samples) != 6 {
		t.Errorf("%d samples are kept, want 6", len(b.model.samples))
	}
	for i := range 2 * historyLength {
		b.send(sampled{sampleOf(t, time.Duration(60+2*i)*time.Second, requests(400))})
	}
	if got := len(b.model.screen.Requests); got != historyLength {
		t.Errorf("the curve has %d points, want %d", got, historyLength)
	}
}

// TestGatewayGone checks that the screen shows since when a gateway does not answer.
// The model must continue to request samples. When the gateway answers again, the
// screen no longer shows the outage.
func TestGatewayGone(t *testing.T) {
	b := newBench(t)
	b.send(sampled{sampleOf(t, 2*time.Second, requests(100))})
	for i := range 3 {
		b.send(missed{start.Add(time.Duration(4+2*i) * time.Second), "connection refused"})
		if b.cmd == nil {
			t.Fatal("the model does not ask on")
		}
	}
	frame := b.frame()
	missedAt, lastAt := start.Add(4*time.Second).Format(time.TimeOnly), start.Add(2*time.Second).Format(time.TimeOnly)
	for _, want := range []string{"NO ANSWER since " + missedAt + " (4s)", "connection refused", "last answer " + lastAt, "50.0/s"} {
		if !strings.Contains(frame, want) {
			t.Errorf("the frame has no %q:\n%s", want, frame)
		}
	}
	b.send(sampled{sampleOf(t, 60*time.Second, requests(100))})
	if curve := b.model.screen.Requests; len(curve) != 5 || !math.IsNaN(curve[1]) || !math.IsNaN(curve[3]) || curve[4] != 0 {
		t.Errorf("the curve has no gap: %v", curve)
	}
	if frame := b.frame(); strings.Contains(frame, "NO ANSWER") || strings.Contains(frame, "last answer") {
		t.Errorf("the outage is still shown:\n%s", frame)
	}
	if got := *b.model.screen.View.Seconds; got != 58 {
		t.Errorf("rates are of %v seconds, want all 58 without an answer", got)
	}
}

// TestKeys checks that each key that an operator can press has its effect.
func TestKeys(t *testing.T) {
	for _, quit := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: tea.KeyEscape}, {Code: 'c', Mod: tea.ModCtrl}} {
		b := newBench(t)
		if b.send(quit); b.cmd == nil || b.cmd() != tea.Quit() {
			t.Errorf("%s does not quit", quit)
		}
	}
	b := newBench(t)
	if b.press('?'); !strings.Contains(b.frame(), "pause, and go on") {
		t.Errorf("? shows no help:\n%s", b.frame())
	}
	if b.press('?'); strings.Contains(b.frame(), "pause, and go on") {
		t.Error("the help does not go away")
	}
	for _, want := range []string{"TOOLS by time", "TOOLS by money", "TOOLS by name", "TOOLS by calls"} {
		if b.press('s'); !strings.Contains(b.frame(), want) {
			t.Errorf("s does not lead to %q", want)
		}
	}
	if b.send(tea.KeyPressMsg{Code: 'z', Mod: tea.ModCtrl}); b.cmd == nil || b.cmd() != tea.Suspend() {
		t.Error("Ctrl-Z does not suspend")
	}
	before := b.frame()
	if b.press('x', tea.KeyF1); b.frame() != before || b.cmd != nil {
		t.Error("another key does something")
	}
}

// TestPause checks that a paused screen requests no samples and does not change. When
// the pause ends, the model must request a sample immediately.
func TestPause(t *testing.T) {
	b := newBench(t)
	b.press('p')
	if frame := b.frame(); !strings.Contains(frame, "PAUSED") || !strings.Contains(frame, "p go on") {
		t.Errorf("the frame does not say that it is paused:\n%s", frame)
	}
	if b.send(due{b.model.turn}); b.cmd != nil {
		t.Error("a paused screen asks")
	}
	if b.press('p'); !b.asks() || strings.Contains(b.frame(), "PAUSED") {
		t.Error("the screen does not go on")
	}
	if b.send(due{b.model.turn}); b.cmd != nil {
		t.Error("the wait from before the pause made it ask a second time")
	}
}

// TestInterval checks that the keys "+" and "-" change the interval within its bounds,
// and that each change starts a new wait.
func TestInterval(t *testing.T) {
	b := newBench(t)
	turn := b.model.turn
	if b.press('-'); b.model.screen.Interval != time.Second || b.cmd == nil || b.model.turn == turn {
		t.Errorf("- leads to %s", b.model.screen.Interval)
	}
	if !strings.Contains(b.frame(), "every 1s") {
		t.Error("the new interval is not shown")
	}
	b.press('-', '-', '-', '-')
	if got := b.model.screen.Interval; got != 500*time.Millisecond || b.cmd != nil {
		t.Errorf("the shortest interval is %s", got)
	}
	b.press('+', '+', '+', '+', '+', '+', '+', '+', '=')
	if got := b.model.screen.Interval; got != time.Minute {
		t.Errorf("the longest interval is %s", got)
	}
	b.press('p', '-')
	if b.cmd != nil {
		t.Error("a paused screen waits")
	}
	// The command line may set an interval outside the range that the keys can set. The
	// key for a shorter interval must then not lengthen it, and the key for a longer
	// interval must not shorten it.
	for _, d := range []time.Duration{100 * time.Millisecond, time.Hour} {
		if shorter(d) > d || longer(d) < d {
			t.Errorf("%s: shorter is %s, longer is %s", d, shorter(d), longer(d))
		}
	}
}

// TestScroll checks that the body scrolls to its ends and not beyond, and that a
// larger terminal leaves no empty lines.
func TestScroll(t *testing.T) {
	b := newBench(t)
	b.send(tea.WindowSizeMsg{Width: 60, Height: 12})
	b.model.screen.View = busy(t, 60, 12).View
	first := b.frame()
	if b.press(tea.KeyUp); b.frame() != first {
		t.Error("the screen scrolls above its top")
	}
	if b.press(tea.KeyDown); b.frame() == first {
		t.Error("the screen does not scroll")
	}
	b.press(tea.KeyEnd)
	last := b.frame()
	if !strings.Contains(last, "weather") || !strings.Contains(last, "0 lines below") {
		t.Errorf("the end is not shown:\n%s", last)
	}
	if b.press(tea.KeyDown, tea.KeyPgDown); b.frame() != last {
		t.Error("the screen scrolls below its end")
	}
	if b.press(tea.KeyPgUp); b.frame() == last {
		t.Error("the screen does not scroll back by a page")
	}
	if b.press(tea.KeyHome); b.frame() != first {
		t.Error("the screen does not return to its top")
	}
	b.press(tea.KeyEnd)
	if b.send(tea.WindowSizeMsg{Width: 120, Height: 60}); b.model.screen.Scroll != 0 {
		t.Error("a terminal with room for all is still scrolled")
	}
}

// TestOlderModelsStay checks that Update does not change the Model on which it is
// called, because Bubble Tea expects that.
func TestOlderModelsStay(t *testing.T) {
	b := newBench(t)
	b.send(sampled{sampleOf(t, 2*time.Second, requests(10))})
	before := b.model
	frame := b.frame()
	b.send(sampled{sampleOf(t, 4*time.Second, requests(1000))})
	other := bench{t: t, model: before}
	other.send(sampled{sampleOf(t, 4*time.Second, requests(0))})
	if got := ansi.Strip(before.View().Content); got != frame {
		t.Error("an older model has changed")
	}
	if got := b.model.screen.Requests[1]; got != 495 {
		t.Errorf("the curve was changed by another model: %v", got)
	}
}

// TestUnknownPoints checks that a curve has a gap where a value is unknown.
func TestUnknownPoints(t *testing.T) {
	b := newBench(t)
	b.send(sampled{sampleOf(t, 2*time.Second, "farebox_store_up 1\n")})
	if got := b.model.screen.Requests; len(got) != 1 || !math.IsNaN(got[0]) {
		t.Errorf("the curve is %v, want a gap", got)
	}
}

// TestCommands checks the two commands of a model: one requests a sample, and the other
// waits for the interval. Both must end when the context of the model ends.
func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		answer := errors.New("refused")
		m := newModel(ctx, "localhost:2019", 2*time.Second, sampleOf(t, 0, requests(0)), func(ctx context.Context) (*scrape.Sample, error) {
			if answer != nil {
				return nil, answer
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if got, ok := m.scrape().(missed); !ok || got.reason != "refused" {
			t.Errorf("a failed request leads to %+v", got)
		}
		begun := time.NewTimer(2*time.Second + time.Nanosecond)
		if got := m.Init()(); got != (due{0}) {
			t.Errorf("the first wait ends with %v", got)
		}
		select {
		case <-begun.C:
			t.Error("the first wait was longer than the interval")
		default:
		}
		answer = nil
		ended := make(chan tea.Msg, 2)
		go func() { ended <- m.scrape() }()
		go func() { ended <- m.Init()() }()
		synctest.Wait()
		cancel()
		<-ended
		<-ended
	})
}
