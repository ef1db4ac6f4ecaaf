package screen

import (
	"context"
	"math"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/scrape"
	"github.com/fareboxhq/farebox/internal/top"
)

// Scrape requests the gateway's metrics. It must return when its context ends.
type Scrape func(context.Context) (*scrape.Sample, error)

// window is the time over which rates and quantiles are computed. It is long enough for
// quantiles to be steady, and short enough to show a change soon.
const window = 10 * time.Second

// historyLength is the number of points of a curve that are kept.
const historyLength = 256

// Model is the live screen as a model of Bubble Tea. Update returns a new Model, which
// depends only on the old Model and the message.
type Model struct {
	screen  Screen
	address string
	scrape  tea.Cmd
	wait    func(time.Duration, tea.Msg) tea.Cmd

	samples []*scrape.Sample // the samples within the window, the oldest first
	asking  bool             // true while a request to the gateway is on its way
	turn    int              // the number of the present wait; when an earlier wait ends, the model ignores it
}

// Messages that the model gets in addition to those of the terminal: a scrape
// succeeded, a scrape failed, or a wait ended.
type (
	sampled struct{ sample *scrape.Sample }
	missed  struct {
		at     time.Time
		reason string
	}
	due struct{ turn int }
)

// newModel returns a model that already has one sample. The commands that its methods
// return end when ctx ends.
func newModel(ctx context.Context, address string, interval time.Duration, first *scrape.Sample, ask Scrape) Model {
	m := Model{
		screen: Screen{Interval: interval}, address: address,
		scrape: func() tea.Msg {
			sample, err := ask(ctx)
			if err != nil {
				return missed{clock.Now(), err.Error()}
			}
			return sampled{sample}
		},
		wait: func(d time.Duration, msg tea.Msg) tea.Cmd {
			return func() tea.Msg {
				if clock.Sleep(ctx, d) != nil {
					return nil
				}
				return msg
			}
		},
	}
	m.take(first)
	return m
}

// Init starts the wait before the second sample.
func (m Model) Init() tea.Cmd { return m.wait(m.screen.Interval, due{m.turn}) }

// View draws the screen.
func (m Model) View() tea.View {
	v := tea.NewView(m.screen.Frame())
	v.AltScreen = true
	v.WindowTitle = "farebox top " + name(m.address)
	return v
}

// Update handles one message.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.screen.Width, m.screen.Height = msg.Width, msg.Height
		m.screen.Scroll = min(m.screen.Scroll, m.screen.bottom())
	case tea.KeyPressMsg:
		return m.key(msg.String())
	case due:
		if msg.turn == m.turn && !m.screen.Paused {
			return m.ask()
		}
	case sampled:
		m.asking = false
		m.screen.Gone = nil
		m.take(msg.sample)
		return m.next()
	case missed:
		m.asking = false
		gone := Gone{Since: msg.at, Last: msg.at, Reason: msg.reason}
		if m.screen.Gone != nil {
			gone.Since = m.screen.Gone.Since
		}
		m.screen.Gone = &gone
		m.screen.Requests, m.screen.Money = appended(m.screen.Requests, nil), appended(m.screen.Money, nil)
		return m.next()
	}
	return m, nil
}

// ask requests a sample from the gateway, unless an earlier request is still running.
func (m Model) ask() (Model, tea.Cmd) {
	if m.asking {
		return m, nil
	}
	m.asking = true
	return m, m.scrape
}

// next starts the wait before the next scrape. Earlier waits have a lower turn, so
// Update ignores their ends.
func (m Model) next() (Model, tea.Cmd) {
	m.turn++
	return m, m.wait(m.screen.Interval, due{m.turn})
}

// take adds a sample to the window. The screen then shows the values for the time since
// the oldest sample in the window. The curves get the values for the time since the
// previous sample.
func (m *Model) take(sample *scrape.Sample) {
	var previous *scrape.Sample
	if n := len(m.samples); n > 0 {
		previous = m.samples[n-1]
	}
	var kept []*scrape.Sample // a new list, because the previous model still has the old one
	for _, s := range m.samples {
		if s == previous || sample.At.Sub(s.At) <= window {
			kept = append(kept, s)
		}
	}
	m.samples = append(kept, sample)
	from := m.samples[0]
	if from == sample {
		from = nil
	}
	m.screen.View = top.New(m.address, scrape.Interval{From: from, To: sample})
	if previous == nil {
		return
	}
	latest := top.New(m.address, scrape.Interval{From: previous, To: sample})
	m.screen.Requests = appended(m.screen.Requests, latest.Requests.PerSecond)
	m.screen.Money = appended(m.screen.Money, perMinute(latest.Money.Live.ChargedPerMinute))
}

func perMinute(a *ledger.Amount) *float64 {
	if a == nil {
		return nil
	}
	units := float64(*a) / float64(ledger.Unit)
	return &units
}

// appended returns a new curve with one more point.
func appended(curve []float64, v *float64) []float64 {
	point := math.NaN()
	if v != nil {
		point = *v
	}
	return append(append([]float64{}, curve[max(0, len(curve)-historyLength+1):]...), point)
}

// intervals are the intervals that the keys "+" and "-" choose from.
var intervals = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// key handles the press of a key.
func (m Model) key(key string) (tea.Model, tea.Cmd) {
	s := &m.screen
	page := max(1, s.Height-4)
	switch key {
	case "q", "Q", "ctrl+c", "esc":
		return m, tea.Quit
	case "ctrl+z":
		return m, tea.Suspend
	case "?", "h":
		s.Help, s.Scroll = !s.Help, 0
	case "s":
		s.Order = (s.Order + 1) % len(orders)
	case "p", "space":
		if s.Paused = !s.Paused; !s.Paused {
			return m.ask()
		}
	case "+", "=":
		return m.pace(longer)
	case "-", "_":
		return m.pace(shorter)
	case "up", "k":
		s.Scroll--
	case "down", "j":
		s.Scroll++
	case "pgup":
		s.Scroll -= page
	case "pgdown":
		s.Scroll += page
	case "home", "g":
		s.Scroll = 0
	case "end", "G":
		s.Scroll = s.bottom()
	}
	s.Scroll = max(0, min(s.Scroll, s.bottom()))
	return m, nil
}

// longer returns the shortest interval in the list that is longer than d, or d if no
// interval is longer.
func longer(d time.Duration) time.Duration {
	for _, i := range intervals {
		if i > d {
			return i
		}
	}
	return d
}

func shorter(d time.Duration) time.Duration {
	for i := len(intervals) - 1; i >= 0; i-- {
		if intervals[i] < d {
			return intervals[i]
		}
	}
	return d
}

// pace changes the interval with the given function, and starts a new wait with the new
// interval.
func (m Model) pace(change func(time.Duration) time.Duration) (tea.Model, tea.Cmd) {
	interval := change(m.screen.Interval)
	if interval == m.screen.Interval {
		return m, nil
	}
	m.screen.Interval = interval
	if m.asking || m.screen.Paused {
		return m, nil // the next wait begins when the gateway answers or the pause ends
	}
	return m.next()
}
