package screen

import (
	"cmp"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/top"
)

// maxCodes is the number of codes that are listed below the refused requests, and below
// the failed requests.
const maxCodes = 4

// The smallest widths for two and for three columns of panels.
const (
	twoColumns   = 92
	threeColumns = 150
)

// panels draws the panels, in as many columns as the width has room for.
func (s *Screen) panels(width int) []string {
	requests, money, times, keys, store := s.requests(), s.money(), s.times(), s.keys(), s.store()
	columns := [][]panel{{requests, money, times, keys, store}}
	switch {
	case width >= threeColumns:
		columns = [][]panel{{requests}, {money, times}, {keys, store}}
	case width >= twoColumns:
		columns = [][]panel{{requests, store}, {money, times, keys}}
	}
	return append(beside(columns, width), "", s.process(width))
}

func (s *Screen) requests() panel {
	v := s.View
	p := panel{title: "REQUESTS", headline: rate(v.Requests.PerSecond), history: s.history(s.Requests),
		peak: func(n float64) string { return rate(&n) }}
	for _, k := range v.Requests.Kinds {
		if k.Kind == top.NotCharged && k.Total != nil && *k.Total == 0 {
			continue
		}
		p.rows = append(p.rows, row{label: kindName(k.Kind), cells: []string{rate(k.PerSecond), percent(k.Share)}, bar: k.Share, shade: shadeOf(k.Kind), tone: toneOf(k)})
		if k.Kind != top.Refused && k.Kind != top.Failed {
			continue
		}
		n := 0
		for _, d := range v.Requests.Decisions {
			if d.Kind != k.Kind {
				continue
			}
			if n++; n > maxCodes {
				p.rows = append(p.rows, row{label: dim.paint("  and others")})
				break
			}
			p.rows = append(p.rows, row{label: "  " + name(d.Decision), cells: []string{rate(d.PerSecond), count(d.Total) + " ×"}})
		}
	}
	return p
}

// history returns values for the curve of a panel. It returns nil if the screen is a
// single frame, because such a frame has no curves.
func (s *Screen) history(values []float64) []float64 {
	if s.Still {
		return nil
	}
	return append([]float64{}, values...)
}

func kindName(k top.Kind) string { return strings.ReplaceAll(string(k), "_", " ") }

// shadeOf returns the color of the bar for a kind.
func shadeOf(k top.Kind) tone {
	return map[top.Kind]tone{top.Charged: good, top.Free: accent, top.Refused: warn, top.Failed: bad}[k]
}

// toneOf returns the color for the numbers of a kind. Failures are marked as bad,
// because the operator must act on them. Refusals are not, because they are a matter
// for the caller.
func toneOf(k top.KindCount) tone {
	if k.Kind == top.Failed && k.PerSecond != nil && *k.PerSecond > 0 {
		return bad
	}
	return plain
}

func (s *Screen) money() panel {
	m := &s.View.Money
	p := panel{title: "MONEY", headline: s.perMinute(), history: s.history(s.Money),
		peak: func(n float64) string { return decimal(&n) + "/min" }}
	p.rows = []row{
		{label: "charged", cells: []string{money(m.Live.Charged)}, note: "since the start"},
		{label: "refunded", cells: []string{money(m.Live.Refunded)}, note: remark("in ", count(m.Live.Refunds), " refunds")},
		{label: "operator's fees", cells: []string{money(m.Live.Fees)}},
		{label: "refused, no money", cells: []string{rate(m.Lacking.PerSecond)}, note: times(m.Lacking.Total)},
		{label: "failed charges", cells: []string{rate(m.FailedCharges.PerSecond)}, note: times(m.FailedCharges.Total), tone: badIf(m.FailedCharges.PerSecond)},
		{label: "refunds owed", cells: []string{count(m.RefundsOwed)}, tone: badIf(m.RefundsOwed)},
		{label: "open reservations", cells: []string{count(m.ReservationsOpen)}},
	}
	if t := m.Test; t.Charged != nil && *t.Charged != 0 {
		p.rows = append(p.rows, row{label: "with test keys", cells: []string{money(t.Charged)}, note: remark("", money(t.ChargedPerMinute), "/min")})
	}
	return p
}

// times prints how often an event has happened since the start of the gateway's
// process.
func times(n *float64) string {
	if n == nil {
		return ""
	}
	return count(n) + " ×"
}

// badIf returns the tone of a number that should be 0.
func badIf(n *float64) tone {
	if n != nil && *n > 0 {
		return bad
	}
	return plain
}

// perMinute prints the amount that is charged in a minute, with the currency.
func (s *Screen) perMinute() string {
	text := money(s.View.Money.Live.ChargedPerMinute)
	if text == dash {
		return dash
	}
	if c := s.View.Currency; c != nil {
		text += " " + name(*c)
	}
	return text + "/min"
}

// remark returns a number with the words before and after it, or "" if the number is
// unknown.
func remark(before, figure, after string) string {
	if figure == dash {
		return ""
	}
	return before + figure + after
}

func (s *Screen) times() panel {
	t := &s.View.Time
	p := panel{title: "TIME", heads: []string{"p50", "p99"}}
	for _, r := range []struct {
		label string
		of    top.Quantiles
	}{{"added by farebox", t.Added}, {"servers upstream", t.Upstream}, {"capture of a charge", t.Capture}, {"lookup of a key", t.Lookup}} {
		p.rows = append(p.rows, row{label: r.label, cells: []string{seconds(r.of.P50), seconds(r.of.P99)}})
	}
	return p
}

func (s *Screen) keys() panel {
	k := &s.View.Keys
	p := panel{title: "KEYS", headline: cmp.Or(remark("", percent(k.HitRatio), " from the cache"), dash)}
	lag := row{label: "revocation lag", cells: []string{seconds(k.LagSeconds)}}
	if k.LagLimitSeconds != nil && *k.LagLimitSeconds > 0 {
		lag.note = "limit " + seconds(k.LagLimitSeconds)
		if k.LagSeconds != nil && *k.LagSeconds >= *k.LagLimitSeconds/2 {
			lag.tone = bad
		}
	}
	expiring := row{label: "expiring in 7 days", cells: []string{dash}}
	if n, ok := k.Expiring["7d"]; ok {
		expiring.cells = []string{count(&n)}
	}
	p.rows = []row{
		{label: "lookups", cells: []string{rate(k.LookupsPerSecond)}, note: remark("", count(k.CacheEntries), " in the cache")},
		{label: "unknown tokens", cells: []string{rate(k.UnknownPerSecond)}, note: limited(k.LimitedPerSecond)},
		lag, expiring,
	}
	return p
}

// limited returns a remark with the number of refused lookups per second, or "" if none
// were refused.
func limited(n *float64) string {
	if n == nil || *n == 0 {
		return ""
	}
	return rate(n) + " held off"
}

func (s *Screen) store() panel {
	t := &s.View.Store
	p := panel{title: "STORE", headline: s.storeState()}
	if t.Kind != nil {
		p.headline = name(*t.Kind) + " " + p.headline
	}
	queue := row{label: "queue", cells: []string{count(t.QueueLength)}, note: remark("limit ", count(t.QueueLimit), "")}
	free := row{label: "disk free", cells: []string{bytes(t.DiskFreeBytes)}}
	if t.DiskFreeBytes != nil && t.DiskBytes != nil && *t.DiskBytes > 0 {
		part := *t.DiskFreeBytes / *t.DiskBytes
		free.note = percent(&part) + " of " + bytes(t.DiskBytes)
	}
	p.rows = []row{
		{label: "commits", cells: []string{rate(t.CommitsPerSecond)}, note: remark("", decimal(t.RowsPerCommit), " rows each")},
		{label: "commit p99", cells: []string{seconds(t.Commit.P99)}, note: remark("p50 ", seconds(t.Commit.P50), "")},
		queue,
		{label: "size", cells: []string{s.size()}, note: s.ofIt()},
		free,
		{label: "books verified", cells: []string{s.verified()}, note: differences(t.LedgerDifferences), tone: badIf(t.LedgerDifferences)},
	}
	if t.ConnectionsInUse != nil {
		p.rows = append(p.rows, row{label: "connections in use", cells: []string{count(t.ConnectionsInUse)}, note: remark("limit ", count(t.ConnectionsLimit), "")})
	}
	return p
}

// storeState returns a word that says whether the store answers.
func (s *Screen) storeState() string {
	switch up := s.View.Store.Up; {
	case up == nil:
		return dash
	case *up:
		return good.paint("up")
	default:
		return bad.paint("DOWN")
	}
}

// size prints the size of the store in bytes.
func (s *Screen) size() string {
	parts := s.View.Store.Bytes
	if len(parts) == 0 {
		return dash
	}
	total := 0.0
	for _, part := range parts {
		total += part
	}
	return bytes(&total)
}

// ofIt returns a remark with the size of SQLite's log or PostgreSQL's indexes. The
// remark is useful because the log and the indexes can grow independently of the data.
func (s *Screen) ofIt() string {
	for _, part := range []string{"wal", "indexes"} {
		if n, ok := s.View.Store.Bytes[part]; ok {
			return part + " " + bytes(&n)
		}
	}
	return ""
}

func (s *Screen) verified() string {
	at := s.View.Store.LedgerVerifiedAt
	if at == nil {
		return dash
	}
	return age(max(0, s.View.At.Sub(*at)).Truncate(time.Second)) + " ago"
}

func differences(n *float64) string {
	switch {
	case n == nil:
		return ""
	case *n == 0:
		return "they balance"
	default:
		return count(n) + " differences"
	}
}

// process draws the numbers about the gateway's process in one line.
func (s *Screen) process(width int) string {
	g := &s.View.Gateway
	texts := []string{
		"calls in flight " + count(g.CallsInFlight) + s.share("calls"), "streams " + count(g.StreamsOpen) + s.share("streams"),
		"sessions " + count(g.SessionsOpen) + s.share("session_ids"), "CPU " + cmp.Or(remark("", decimal(g.CPU), " cores"), dash), "memory " + bytes(g.MemoryBytes),
		"held back " + bytes(g.HeldBytes) + s.share("memory"),
	}
	if g.Nodes != nil && *g.Nodes > 1 {
		texts = append(texts, count(g.Nodes)+" gateways at this store")
	}
	return segments("process", texts, width)
}

// share returns the percentage of a resource's limit that is in use, or "" if it is
// unknown.
func (s *Screen) share(of string) string {
	for _, share := range s.View.Gateway.Shares {
		if share.Of == of && share.Used != nil && share.Limit != nil && *share.Limit > 0 {
			part := *share.Used / *share.Limit
			return " (" + percent(&part) + ")"
		}
	}
	return ""
}

func (s *Screen) uptime() string {
	if s.View.Gateway.UptimeSeconds == nil {
		return dash
	}
	return age(time.Duration(*s.View.Gateway.UptimeSeconds * float64(time.Second)))
}
