package top

import (
	"math"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/scrape"
)

// reader reads figures from the two scrapes of an interval. A figure is nil if the
// gateway has no metric for it.
type reader struct {
	scrape.Interval
	// complete reports whether the gateway's version has all metrics that this package
	// reads. A counter with labels is missing from a scrape until it counts its first
	// event. So if complete is true, a missing counter means 0. Otherwise the gateway
	// may not have the counter at all.
	complete bool
}

// always lists the counters that every gateway with complete metrics has. The
// counters of the store are not in the list, because a gateway that uses a platform has
// no store of its own.
var always = map[string]bool{
	"farebox_requests_total": true, "farebox_key_lookups_total": true, "farebox_charges_total": true, "farebox_charged_amount_total": true,
	"farebox_fees_amount_total": true, "farebox_refunds_total": true, "farebox_refunded_amount_total": true,
}

// counts reports whether the gateway has the counter, even if the counter has no series
// yet.
func (r reader) counts(name string) bool { return r.To.Has(name) || r.complete && always[name] }

// total returns the sum of the counters that have the given name and labels.
func (r reader) total(name string, where scrape.Labels) *float64 {
	sum, _ := r.To.Sum(name, where)
	return optional(sum, r.counts(name))
}

// rate returns the increase per second of the counters that have the given name and
// labels.
func (r reader) rate(name string, where scrape.Labels) *float64 {
	seconds, measured := r.Seconds()
	increase, _ := r.Increase(name, where)
	return optional(increase/seconds, measured && r.counts(name))
}

// gauge returns the sum of the gauges that have the given name and labels.
func (r reader) gauge(name string, where scrape.Labels) *float64 {
	return optional(r.To.Sum(name, where))
}

// gaugesBy returns the gauges with the given name, added up for each value of the
// label. It returns nil if the gateway has no such gauge.
func (r reader) gaugesBy(name, label string) map[string]float64 {
	var values map[string]float64
	for _, s := range r.To.Series(name) {
		if values == nil {
			values = make(map[string]float64)
		}
		values[s.Labels[label]] += s.Value
	}
	return values
}

// text returns the value of a label of a gauge. Some gauges, such as
// farebox_build_info, exist only for their labels.
func (r reader) text(name, label string) *string {
	for _, s := range r.To.Series(name) {
		if text := s.Labels[label]; text != "" {
			return &text
		}
	}
	return nil
}

func (r reader) quantiles(name string, where scrape.Labels) Quantiles {
	return Quantiles{P50: optional(r.Quantile(.5, name, where)), P99: optional(r.Quantile(.99, name, where))}
}

// amount returns the sum of the counters that have the given name and labels. The
// counters must count money.
func (r reader) amount(name string, where scrape.Labels) *ledger.Amount {
	return toAmount(r.total(name, where), 1)
}

// perMinute returns the increase per minute of the counters that have the given name
// and labels. The counters must count money.
func (r reader) perMinute(name string, where scrape.Labels) *ledger.Amount {
	return toAmount(r.rate(name, where), 60)
}

// toAmount multiplies units of the currency by a factor, and returns the product as an
// amount. The units are a float, as in Prometheus. Up to 9 thousand million units,
// rounding restores the exact number of micro-units.
func toAmount(units *float64, times float64) *ledger.Amount {
	if units == nil {
		return nil
	}
	a := ledger.Amount(math.Round(*units * times * float64(ledger.Unit)))
	return &a
}

// optional returns the value, or nil if it is unknown. It rounds to nine decimal
// places, because further digits are only errors of floating-point divisions.
func optional(value float64, known bool) *float64 {
	if !known || math.IsNaN(value) || math.IsInf(value, 0) {
		return nil
	}
	value = math.Round(value*1e9) / 1e9
	return &value
}
