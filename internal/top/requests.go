package top

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/scrape"
)

// Kind is a group of similar decisions about requests.
type Kind string

// The kinds of decisions.
const (
	Charged    Kind = "charged"     // paid calls that were charged
	Free       Kind = "free"        // requests that cost nothing, and repeated calls that were paid before
	NotCharged Kind = "not_charged" // paid calls that were not charged, for example because the tool returned an error
	Refused    Kind = "refused"     // requests from callers that lack a right or money, and malformed requests
	Failed     Kind = "failed"      // requests that failed because of the server behind the gateway, the store or the config
)

// Kinds returns the kinds in the order in which they are shown.
func Kinds() []Kind { return []Kind{Charged, Free, NotCharged, Refused, Failed} }

// failures are the codes of refusals for which the caller is not responsible.
var failures = []gate.Code{gate.UpstreamFailed, gate.UpstreamTimeout, gate.StoreUnavailable, gate.ChargeFailed, gate.Misconfigured}

// lackOfMoney are the codes with which a call is refused if its caller cannot pay.
var lackOfMoney = []gate.Code{gate.InsufficientBalance, gate.SpendingCap}

// KindOf returns the kind of a decision. Decisions have their names in the metric
// farebox_requests_total, in which a refusal has its code in capital letters. KindOf
// classifies an unknown decision as a refusal if it looks like a code, and otherwise as
// a free request.
func KindOf(decision string) Kind {
	switch {
	case decision == "charged":
		return Charged
	case decision == "not_charged":
		return NotCharged
	case slices.Contains(failures, gate.Code(decision)):
		return Failed
	case decision != "" && decision == strings.ToUpper(decision):
		return Refused
	default:
		return Free
	}
}

// Count is a number of events.
type Count struct {
	Total     *float64 `json:"total"`
	PerSecond *float64 `json:"per_second"`
}

// Requests has the numbers of requests.
type Requests struct {
	Count
	// Kinds counts the requests by kind. It has one element for each kind, in the
	// order of the function Kinds. A request that failed after it was forwarded is
	// counted as failed, and also as free or not charged.
	Kinds     []KindCount     `json:"kinds"`
	Decisions []DecisionCount `json:"decisions"` // the decisions that occurred, the most frequent first
}

// KindCount counts the requests of one kind.
type KindCount struct {
	Kind Kind `json:"kind"`
	Count
	Share *float64 `json:"share"` // the requests of this kind as a fraction of all requests in the interval
}

// DecisionCount counts the requests with one decision.
type DecisionCount struct {
	Decision string `json:"decision"`
	Kind     Kind   `json:"kind"`
	Count
}

const (
	requestsTotal = "farebox_requests_total"
	failuresTotal = "farebox_failures_total"
)

func (r reader) requests() Requests {
	q := Requests{Count: r.count(requestsTotal, nil), Decisions: r.decisions(nil)}
	slices.SortFunc(q.Decisions, func(a, b DecisionCount) int {
		return cmp.Or(cmp.Compare(value(b.PerSecond), value(a.PerSecond)), cmp.Compare(value(b.Total), value(a.Total)), cmp.Compare(a.Decision, b.Decision))
	})
	for _, kind := range Kinds() {
		k := KindCount{Kind: kind, Count: sum(q.Count, q.Decisions, func(d DecisionCount) bool { return d.Kind == kind })}
		if value(q.PerSecond) > 0 {
			k.Share = optional(value(k.PerSecond) / *q.PerSecond, true)
		}
		q.Kinds = append(q.Kinds, k)
	}
	return q
}

// decisions counts the requests with the given labels by decision. It leaves out
// decisions that did not occur. Failures come from a separate counter, because a
// request that fails after it was forwarded still has the decision free or not_charged.
// For a gateway without that counter, only requests that failed before they were
// forwarded count as failed.
func (r reader) decisions(where scrape.Labels) []DecisionCount {
	all := r.decisionsBy(requestsTotal, "decision", where)
	if !r.To.Has(failuresTotal) {
		return all
	}
	all = slices.DeleteFunc(all, func(d DecisionCount) bool { return d.Kind == Failed })
	for _, failure := range r.decisionsBy(failuresTotal, "code", where) {
		failure.Kind = Failed
		all = append(all, failure)
	}
	return all
}

// decisionsBy returns one element for each value of a label of the counter. It uses
// only series with the given labels, and leaves out values with a count of 0.
func (r reader) decisionsBy(name, label string, where scrape.Labels) []DecisionCount {
	all := []DecisionCount{}
	seen := make(map[string]bool)
	for _, s := range r.To.Series(name) {
		decision := s.Labels[label]
		if seen[decision] {
			continue
		}
		seen[decision] = true
		chosen := scrape.Labels{label: decision}
		maps.Copy(chosen, where)
		if n := r.count(name, chosen); value(n.Total) > 0 {
			all = append(all, DecisionCount{decision, KindOf(decision), n})
		}
	}
	return all
}

func (r reader) count(name string, where scrape.Labels) Count {
	return Count{Total: r.total(name, where), PerSecond: r.rate(name, where)}
}

// sum adds up the decisions that satisfy the predicate choose. It also gets the
// count of all requests. A number that is unknown in that count is unknown in the sum,
// too.
func sum(all Count, decisions []DecisionCount, choose func(DecisionCount) bool) Count {
	var total, rate float64
	for _, d := range decisions {
		if choose(d) {
			total, rate = total+value(d.Total), rate+value(d.PerSecond)
		}
	}
	return Count{Total: optional(total, all.Total != nil), PerSecond: optional(rate, all.PerSecond != nil)}
}

// value returns *v, or 0 if the number is unknown.
func value(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}
