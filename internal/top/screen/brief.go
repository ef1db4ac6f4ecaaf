package screen

import (
	"cmp"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/fareboxhq/farebox/internal/top"
)

// briefLabel is the width of the labels in the lines that Screen.brief draws.
const briefLabel = 10

// brief draws the panels in a few lines. It is for screens on which the full panels
// leave no room for the tables.
func (s *Screen) brief(width int) []string {
	v := s.View
	lines := []string{s.briefCurve("requests", rate(v.Requests.PerSecond), s.Requests, width)}
	var kinds, last []string
	for _, k := range v.Requests.Kinds {
		text := toneOf(k).paint(kindName(k.Kind) + " " + percent(k.Share))
		if k.Kind != top.NotCharged {
			kinds = append(kinds, text)
		} else if k.Total != nil && *k.Total > 0 {
			last = []string{text} // not_charged comes last, because it is the least important kind
		}
	}
	kinds = append(kinds, last...)
	lines = append(lines, segments("", kinds, width))
	if codes := s.briefCodes(); len(codes) > 0 {
		lines = append(lines, segments("", codes, width))
	}
	m := &v.Money
	moneys := []string{money(m.Live.Charged) + " since the start", "refused, no money " + rate(m.Lacking.PerSecond),
		badIf(m.RefundsOwed).paint("refunds owed " + count(m.RefundsOwed)), "reservations " + count(m.ReservationsOpen), "refunded " + money(m.Live.Refunded)}
	lines = append(lines, s.briefCurve("money", s.perMinute(), s.Money, width), segments("", moneys, width))
	t := &v.Time
	lines = append(lines, segments("p50, p99", []string{"added " + both(t.Added), "upstream " + both(t.Upstream), "capture " + both(t.Capture)}, width))
	k := &v.Keys
	lines = append(lines, segments("keys", []string{cmp.Or(remark("", percent(k.HitRatio), " from the cache"), dash), "unknown " + rate(k.UnknownPerSecond), "lag " + seconds(k.LagSeconds), "lookups " + rate(k.LookupsPerSecond)}, width))
	st := &v.Store
	stores := []string{s.storeState(), rate(st.CommitsPerSecond) + " commits", "p99 " + seconds(st.Commit.P99), "queue " + count(st.QueueLength), "disk free " + bytes(st.DiskFreeBytes)}
	lines = append(lines, segments("store", stores, width))
	if !s.low() {
		lines = append(lines, s.process(width))
	}
	return lines
}

// both prints the median and the 99th percentile of a duration.
func both(q top.Quantiles) string { return seconds(q.P50) + ", " + seconds(q.P99) }

// briefCodes returns the most frequent codes of refused and failed requests.
func (s *Screen) briefCodes() (codes []string) {
	for _, d := range s.View.Requests.Decisions {
		if (d.Kind == top.Refused || d.Kind == top.Failed) && d.PerSecond != nil && *d.PerSecond > 0 {
			codes = append(codes, shadeOf(d.Kind).paint(name(d.Decision))+" "+rate(d.PerSecond))
		}
	}
	return codes
}

func (s *Screen) briefCurve(label, figure string, values []float64, width int) string {
	line := strong.paint(accent.paint(fit(label, briefLabel))) + strong.paint(figure)
	if s.Still {
		return cut(line, width)
	}
	if room := width - ansi.StringWidth(line) - 2; room > 0 {
		line += "  " + accent.paint(sparkline(values, min(room, 60)))
	}
	return cut(line, width)
}

// segments draws as many texts as fit into the width after a label. The first text is
// always drawn.
func segments(label string, texts []string, width int) string {
	line := strong.paint(accent.paint(fit(label, briefLabel)))
	for i, text := range texts {
		more := text
		if i > 0 {
			more = dim.paint(" · ") + text
		}
		if i > 0 && ansi.StringWidth(line+more) > width {
			break
		}
		line += more
	}
	return cut(strings.TrimRight(line, " "), width)
}
