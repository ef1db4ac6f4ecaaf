package top

import (
	"cmp"
	"maps"
	"slices"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/scrape"
)

// Server has the numbers about one server in the gateway's config.
type Server struct {
	Server           string         `json:"server"`
	Requests         Count          `json:"requests"`
	Charged          Count          `json:"charged"`
	Refused          Count          `json:"refused"`
	Failed           Count          `json:"failed"`
	Added            Quantiles      `json:"added"`
	Upstream         Quantiles      `json:"upstream"`
	Amount           *ledger.Amount `json:"charged_amount"` // the amount charged in the live environment
	AmountPerMinute  *ledger.Amount `json:"charged_amount_per_minute"`
	AmountOfTestKeys *ledger.Amount `json:"charged_amount_test"`
}

// servers returns the servers in the config, and all other servers that have had a
// request since the start of the process.
func (r reader) servers() []Server {
	names := make(map[string]bool)
	for _, metric := range []string{requestsTotal, failuresTotal} { // failuresTotal also has servers that have had no request yet
		for _, s := range r.To.Series(metric) {
			names[s.Labels["server"]] = true
		}
	}
	delete(names, "") // requests for which no server was found have an empty name
	servers := make([]Server, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		where := scrape.Labels{"server": name}
		live, test := scrape.Labels{"server": name, "environment": "live"}, scrape.Labels{"server": name, "environment": "test"}
		server := Server{
			Server: name, Requests: r.count(requestsTotal, where),
			Added: r.quantiles("farebox_overhead_seconds", where), Upstream: r.quantiles("farebox_upstream_seconds", where),
			Amount: r.amount(chargedAmount, live), AmountPerMinute: r.perMinute(chargedAmount, live), AmountOfTestKeys: r.amount(chargedAmount, test),
		}
		decisions := r.decisions(where)
		of := func(kind Kind) Count {
			return sum(server.Requests, decisions, func(d DecisionCount) bool { return d.Kind == kind })
		}
		server.Charged, server.Refused, server.Failed = of(Charged), of(Refused), of(Failed)
		servers = append(servers, server)
	}
	return servers
}

// Tool has the numbers about one entry of a server's price book. The entry is a tool, a
// pattern for several tools, or "other".
type Tool struct {
	Server           string         `json:"server"`
	Tool             string         `json:"tool"`
	Calls            Count          `json:"calls"` // calls that the server has answered
	MeanSeconds      *float64       `json:"mean_seconds"`
	MeanSinceStart   *float64       `json:"mean_seconds_since_start"`
	Amount           *ledger.Amount `json:"charged_amount"` // the amount charged in the live environment
	AmountPerMinute  *ledger.Amount `json:"charged_amount_per_minute"`
	AmountOfTestKeys *ledger.Amount `json:"charged_amount_test"`
}

// tools returns the tools that have been called. If the gateway lacks the metric for
// the time that servers take, the number of a tool's calls is the number of its
// charges, and free calls are unknown.
func (r reader) tools() []Tool {
	const timed, charges = "farebox_tool_upstream_seconds", "farebox_charges_total"
	calls := timed + "_count"
	if !r.To.Has(calls) && !r.complete {
		calls = charges
	}
	type name struct{ server, tool string }
	names := make(map[name]bool)
	for _, metric := range []string{calls, charges} {
		for _, s := range r.To.Series(metric) {
			names[name{s.Labels["server"], s.Labels["tool"]}] = true
		}
	}
	tools := make([]Tool, 0, len(names))
	for n := range names {
		where := scrape.Labels{"server": n.server, "tool": n.tool}
		live, test := maps.Clone(where), maps.Clone(where)
		live["environment"], test["environment"] = "live", "test"
		tools = append(tools, Tool{
			Server: n.server, Tool: n.tool, Calls: r.count(calls, where),
			MeanSeconds: optional(r.Mean(timed, where)), MeanSinceStart: optional(scrape.Interval{From: &scrape.Sample{}, To: r.To}.Mean(timed, where)),
			Amount: r.amount(chargedAmount, live), AmountPerMinute: r.perMinute(chargedAmount, live), AmountOfTestKeys: r.amount(chargedAmount, test),
		})
	}
	slices.SortFunc(tools, Busiest)
	return tools
}

// Order compares two tools for sorting.
type Order func(a, b Tool) int

// Busiest orders tools by calls per second, the highest first, and then by calls since
// the start of the process.
func Busiest(a, b Tool) int {
	return cmp.Or(cmp.Compare(value(b.Calls.PerSecond), value(a.Calls.PerSecond)), cmp.Compare(value(b.Calls.Total), value(a.Calls.Total)), ByName(a, b))
}

// Slowest orders tools by mean duration, the longest first. Tools without a call in the
// interval come after all others, ordered by their mean duration since the start of the
// process.
func Slowest(a, b Tool) int {
	return cmp.Or(cmp.Compare(value(b.MeanSeconds), value(a.MeanSeconds)), cmp.Compare(value(b.MeanSinceStart), value(a.MeanSinceStart)), ByName(a, b))
}

// Dearest orders tools by the amount charged per minute, the highest first, and then by
// the amount charged since the start of the process.
func Dearest(a, b Tool) int {
	return cmp.Or(cmp.Compare(units(b.AmountPerMinute), units(a.AmountPerMinute)), cmp.Compare(units(b.Amount), units(a.Amount)),
		cmp.Compare(units(b.AmountOfTestKeys), units(a.AmountOfTestKeys)), ByName(a, b))
}

// ByName orders tools by the name of the server, and then by the name of the tool.
func ByName(a, b Tool) int {
	return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Tool, b.Tool))
}

func units(a *ledger.Amount) ledger.Amount {
	if a == nil {
		return 0
	}
	return *a
}
