package top

import (
	"slices"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/scrape"
)

// Money has the money of the calls in each environment. The amounts in the test
// environment are not real money, so they are never added to those in the live
// environment.
type Money struct {
	Live Environment `json:"live"`
	Test Environment `json:"test"`
	// Lacking counts requests that were refused because their account or key had too
	// little money, or had reached a spending cap.
	Lacking          Count    `json:"refused_for_lack_of_money"`
	FailedCharges    Count    `json:"failed_charges"` // captures that failed, so that the gateway withheld the results
	RefundsOwed      *float64 `json:"refunds_owed"`   // refunds that are due but that the store could not make yet
	ReservationsOpen *float64 `json:"reservations_open"`
}

// Environment has the money in one environment, in the currency of the gateway.
type Environment struct {
	Charged           *ledger.Amount `json:"charged"` // the sum of the charges; refunds are not subtracted
	ChargedPerMinute  *ledger.Amount `json:"charged_per_minute"`
	Fees              *ledger.Amount `json:"fees"` // the operator's share of the charges
	Refunded          *ledger.Amount `json:"refunded"`
	RefundedPerMinute *ledger.Amount `json:"refunded_per_minute"`
	Refunds           *float64       `json:"refunds"`
}

func (r reader) money() Money {
	const charges = "farebox_charges_total"
	m := Money{
		Live: r.environment("live"), Test: r.environment("test"),
		FailedCharges: r.count(charges, scrape.Labels{"result": "failed"}),
		RefundsOwed:   r.gauge("farebox_refunds_owed", nil), ReservationsOpen: r.gauge("farebox_reservations_open", nil),
	}
	requests := r.requests()
	m.Lacking = sum(requests.Count, requests.Decisions, func(d DecisionCount) bool { return slices.Contains(lackOfMoney, gate.Code(d.Decision)) })
	return m
}

func (r reader) environment(name string) Environment {
	where := scrape.Labels{"environment": name}
	return Environment{
		Charged: r.amount(chargedAmount, where), ChargedPerMinute: r.perMinute(chargedAmount, where),
		Fees:     r.amount("farebox_fees_amount_total", where),
		Refunded: r.amount("farebox_refunded_amount_total", where), RefundedPerMinute: r.perMinute("farebox_refunded_amount_total", where),
		Refunds: r.total("farebox_refunds_total", where),
	}
}

const chargedAmount = "farebox_charged_amount_total"
