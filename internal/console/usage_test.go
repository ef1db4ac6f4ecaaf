package console

import (
	"encoding/json"
	"html"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestChartOf checks that a chart has every period from the first one to now, that
// periods without charges are zero, and that there are at least fewPeriods.
func TestChartOf(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	rows := []admin.UsageRowView{{At: day(10), Charged: 2 * ledger.Unit}, {At: day(13), Charged: ledger.Unit, Refunded: ledger.Unit / 2}}
	for name, test := range map[string]struct {
		rows      []admin.UsageRowView
		by        string
		from, now time.Time
		periods   int
		charged   float64
	}{
		"no rows":         {nil, "day", time.Time{}, day(20), 0, 0},
		"to now":          {rows, "day", time.Time{}, day(20).Add(time.Hour), 11, 3},
		"from before":     {rows, "day", day(1), day(20), 20, 3},
		"one day":         {rows[:1], "day", time.Time{}, day(10).Add(time.Hour), fewPeriods, 2},
		"one month":       {[]admin.UsageRowView{{At: day(1), Charged: ledger.Unit}}, "month", time.Time{}, day(20), fewPeriods, 1},
		"hours":           {rows[:1], "hour", time.Time{}, day(10).Add(9 * time.Hour), 10, 2},
		"to the last row": {rows, "day", day(1), time.Time{}, 13, 3},
		"the clock ran":   {rows, "day", time.Time{}, day(11), fewPeriods, 3},
	} {
		c := chartOf(test.rows, test.by, test.from, test.now)
		sum := 0.0
		for _, v := range c.Series[0].Values {
			sum += v
		}
		if len(c.Labels) != test.periods || len(c.Series[0].Values) != test.periods || len(c.Series[1].Values) != test.periods || sum != test.charged {
			t.Errorf("%s: %d periods with %v; want %d with %v", name, len(c.Labels), sum, test.periods, test.charged)
		}
	}
}

// TestChartEnds checks that the chart of a past time range does not go on to now. The
// report has no data after the range, so zeros would be wrong there.
func TestChartEnds(t *testing.T) {
	w, visitors := newWalk(t)
	operator := visitors["operator"]
	since, until := w.now().AddDate(0, 0, -1).Format(time.DateOnly), w.now().AddDate(0, 0, 1).Format(time.DateOnly)
	w.ahead.Add(int64(3 * time.Hour))
	path := "/usage?since=" + since + "&until=" + until
	_, soon := operator.get(path)
	w.ahead.Add(int64(5 * time.Hour))
	_, late := operator.get(path + "&by=hour")
	for _, body := range []string{soon, late} {
		_, text, _ := strings.Cut(body, ` data-chart="`)
		text, _, found := strings.Cut(text, `"`)
		var c chart
		if err := json.Unmarshal([]byte(html.UnescapeString(text)), &c); !found || err != nil || len(c.Labels) != fewPeriods {
			t.Errorf("the chart is %q, %v", text, err)
		}
	}
}
