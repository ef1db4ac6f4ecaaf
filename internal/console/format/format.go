// Package format shows values on the pages of the console: money, times, ids, numbers
// and durations.
package format

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Functions returns the functions that format values on pages. All pages use the same
// functions to show money, times and ids, so that each looks the same everywhere.
// Amounts are in the given currency, and now returns the time.
func Functions(currency string, now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"money": func(a ledger.Amount) template.HTML { return money(a, currency) },
		"time":  moment,
		"when":  func(t *time.Time) template.HTML { return optional(t) },
		"short": shortID,
		"list":  func(parts []string, none string) string { return listOr(parts, none) },
		"json": func(v any) (string, error) {
			text, err := json.Marshal(v)
			return string(text), err
		},
		"ago":    func(t time.Time) string { return ago(now().Sub(t)) },
		"pretty": pretty,
		"query":  withQuery,
		"left":   func(s *float64) string { return Duration(time.Duration(*s * float64(time.Second)).Round(time.Second)) },
		"known":  known, "size": size, "seconds": seconds,
		"spaces":   func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), "_", " ") },
		"period":   period,
		"rows":     func(rows any, query url.Values) sortedRows { return sortedRows{rows, query} },
		"unsorted": func(rows any) sortedRows { return sortedRows{Rows: rows} },
		"sorted":   sortHead,
		"plain":    func(a *ledger.Amount) string { return plain(a) },
		"count":    count,
		"words":    strings.Fields,
		"spaced":   func(parts []string) string { return strings.Join(parts, " ") },
	}
}

// sortedRows is the data of templates that show rows. Query is nil if the rows cannot
// be sorted.
type sortedRows struct {
	Rows  any
	Query url.Values
}

// sortHead returns the head of a column by which a list can be sorted. The head is a
// link to the list in this order or, if the list already has this order, in the reverse
// order. initial is the order of the list if the query names none. A nil query means
// that the list cannot be sorted.
func sortHead(query url.Values, label, by, initial string) template.HTML {
	label = template.HTMLEscapeString(label)
	if query == nil {
		return template.HTML(`<th scope="col">` + label + `</th>`)
	}
	current := cmp.Or(query.Get("sort"), initial)
	next, state, arrow := by, "", ""
	switch current {
	case by:
		next, state, arrow = "-"+by, ` aria-sort="ascending"`, " ▲"
	case "-" + by:
		state, arrow = ` aria-sort="descending"`, " ▼"
	}
	changed := maps.Clone(query)
	changed.Del("after") // a cursor is valid only for its own order
	changed.Del("done")
	changed.Set("sort", next)
	return template.HTML(fmt.Sprintf(`<th scope="col"%s><a href="?%s">%s<span aria-hidden="true">%s</span></a></th>`,
		state, template.HTMLEscapeString(changed.Encode()), label, arrow))
}

// money returns an amount with its currency as HTML. Negative amounts get a CSS class
// that makes them stand out.
func money(a ledger.Amount, currency string) template.HTML {
	class := "money"
	if a < 0 {
		class += " negative"
	}
	return template.HTML(fmt.Sprintf(`<span class="%s">%s <span class="unit">%s</span></span>`, class, a, template.HTMLEscapeString(currency)))
}

// plain returns an amount as the value of a form field, or "" for nil and zero.
func plain(a *ledger.Amount) string {
	if a == nil || *a == 0 {
		return ""
	}
	return a.String()
}

// moment returns a time in UTC as HTML. A script adds the local time of the browser.
func moment(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="none">never</span>`
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s UTC</time>`, t.Format(time.RFC3339), t.Format("2006-01-02 15:04")))
}

func optional(t *time.Time) template.HTML {
	if t == nil {
		return moment(time.Time{})
	}
	return moment(*t)
}

// idDigits is the number of characters of an id that a list shows. A list shows the
// last characters, because ids of the same moment begin alike.
const idDigits = 8

// shortID returns an id, shortened for a list, as HTML. The attribute title has the
// whole id.
func shortID(id string) template.HTML {
	prefix, rest, found := strings.Cut(id, "_")
	short := id
	if found && len(rest) > idDigits {
		short = prefix + "_…" + rest[len(rest)-idDigits:]
	}
	return template.HTML(fmt.Sprintf(`<code class="id" title="%s">%s</code>`, template.HTMLEscapeString(id), template.HTMLEscapeString(short)))
}

func listOr(parts []string, none string) string {
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, ", ")
}

// ago returns the time since a moment in words.
func ago(since time.Duration) string {
	if since < time.Minute {
		return "less than a minute ago"
	}
	return Duration(since) + " ago"
}

// Duration returns a duration in its largest unit, such as "5 minutes".
func Duration(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := (d + unit.of - 1) / unit.of; d >= unit.of || unit.of == time.Second {
			if d >= unit.of {
				n = d / unit.of
			}
			if n == 1 {
				return "1 " + unit.name
			}
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return ""
}

func pretty(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return string(raw)
	}
	return string(text)
}

// withQuery returns the query q with one parameter changed, for a link.
func withQuery(q url.Values, name, value string) template.URL {
	changed := make(url.Values, len(q)+1)
	for k, v := range q {
		if k != "done" {
			changed[k] = v
		}
	}
	changed.Set(name, value)
	return template.URL("?" + changed.Encode())
}

// period returns the label of a period in a report.
func period(t time.Time, by string) string {
	form := time.DateOnly
	switch ledger.UsageBy(by) {
	case ledger.ByHour:
		form = "2006-01-02 15:04"
	case ledger.ByMonth:
		form = "January 2006"
	}
	return t.UTC().Format(form)
}

const unavailable = template.HTML(`<span class="none">unavailable</span>`)

// known returns a measured value as HTML, or "unavailable" for nil. An unknown value
// must not look like 0.
func known(v any) template.HTML {
	switch v := v.(type) {
	case *float64:
		if v != nil {
			return template.HTML(count(int64(*v)))
		}
	case *string:
		if v != nil {
			return template.HTML(template.HTMLEscapeString(*v))
		}
	}
	return unavailable
}

// size returns a number of bytes with a suitable unit.
func size(v any) template.HTML {
	switch v := v.(type) {
	case float64:
		return template.HTML(humanize.IBytes(uint64(v)))
	case *float64:
		if v != nil {
			return template.HTML(humanize.IBytes(uint64(*v)))
		}
	}
	return unavailable
}

// seconds returns a duration that is normally at most a few minutes.
func seconds(v *float64) template.HTML {
	if v == nil {
		return unavailable
	}
	d := time.Duration(*v * float64(time.Second))
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return template.HTML(d.Round(unit / 100).String())
		}
	}
	return template.HTML(d.String())
}

// count returns a number with thin spaces between groups of three digits.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
