package alert

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// State is the stored memory of one crossing. It exists from the first time that the
// condition of the kind was met for the subject.
type State struct {
	Kind    Kind
	Subject string        // an account or a lineage, as returned by subject(…)
	Period  int64         // number of the day or month in which the state was set; 0 for kinds without periods
	Level   int64         // for Cap: the highest percentage that was raised in the period; for Balance: lowBalance or armedBalance
	Amount  ledger.Amount // the cap to which Level applies, or the threshold of Balance
	At      time.Time     // when the state was set; for Balance, when the last alert was raised
}

// subject returns the Subject of a State: the id of an account, or the lineage of a
// key. For a lineage, the parts name the cap, the tool or the network that the state is
// about.
func subject(of string, parts ...string) string {
	for _, p := range parts {
		of += "\n" + p
	}
	return of
}

const (
	// lowBalance and armedBalance are levels of a State of kind Balance. At lowBalance,
	// the alert was raised. At armedBalance, the balance has risen since, so that the
	// next fall raises an alert. An account without a State is also armed.
	lowBalance   = 0
	armedBalance = 1
	// balancePause is the least time between two alerts of kind Balance for one
	// account. If the balance is still low after the pause, the alert is raised then.
	balancePause = time.Hour
)

// balanceState returns the next state of an account's balance, and whether an alert is
// raised. The argument before is the present state if known is true; otherwise there is
// no state yet.
//
// After an alert, the balance must rise a tenth above the threshold before another fall
// raises an alert, because open reservations make the balance swing. After a change of
// the threshold, it is sufficient that the balance reaches the new threshold.
func balanceState(before State, known bool, available, threshold ledger.Amount, now time.Time) (after State, raise bool) {
	after = before
	switch low := known && before.Level == lowBalance; {
	case !low && available < threshold:
		if known && now.Sub(before.At) < balancePause {
			return before, false
		}
		return State{Kind: Balance, Subject: before.Subject, Amount: threshold, At: now}, true
	case low && available >= threshold && (before.Amount != threshold || available-threshold >= threshold/10):
		after.Level = armedBalance
	}
	return after, false
}

// levels are the percentages of a cap at which an alert is raised, in descending order.
var levels = [...]int64{95, 80, 50}

// levelOf returns the highest of the levels that the spending has reached, or 0.
func levelOf(spent, limit ledger.Amount) int64 {
	for _, level := range levels {
		// The limit is divided first, because the product could overflow.
		hundredth, rest := limit/100, limit%100
		if spent >= hundredth*ledger.Amount(level)+(rest*ledger.Amount(level)+99)/100 {
			return level
		}
	}
	return 0
}

// capState returns the next state of a cap, and whether an alert is raised. It takes
// the stored state and the state according to the present spending. A new period begins
// at level 0. If the cap was changed within the period, the level falls to the level
// that the spending has reached with the new cap, so that higher levels can be raised
// again.
func capState(before, now State) (after State, raise bool) {
	if now.Period < before.Period {
		return before, false // another node has a faster clock, and has begun the next period
	}
	level := int64(0)
	if before.Period == now.Period {
		level = before.Level
		if before.Amount != now.Amount {
			level = min(level, now.Level)
		}
	}
	raise = now.Level > level
	now.Level = max(level, now.Level)
	return now, raise
}

const (
	// usualDays is the number of days before today from which usual spending is
	// computed.
	usualDays = 14
	// minDays is the number of days with spending that are needed to compute usual
	// spending.
	minDays = 3
	// minSpend is the amount that a day's spending must reach to be unusual.
	minSpend = ledger.Unit
)

// usualSpend returns the median spending of the days on which something was spent, or 0
// if there are fewer than minDays such days. The median is used so that a single
// unusual day hardly changes it.
func usualSpend(days []ledger.Amount) ledger.Amount {
	days = slices.DeleteFunc(slices.Clone(days), func(a ledger.Amount) bool { return a <= 0 })
	if len(days) < minDays {
		return 0
	}
	slices.Sort(days)
	middle := len(days) / 2
	if len(days)%2 == 1 {
		return days[middle]
	}
	return days[middle-1] + (days[middle]-days[middle-1])/2
}

// unusual reports whether the spending of today is greater than factor times the usual
// spending of a day.
func unusual(today, usual ledger.Amount, factor int64) bool {
	return factor > 0 && usual > 0 && today >= minSpend && today/ledger.Amount(factor) >= usual &&
		(today/ledger.Amount(factor) > usual || today%ledger.Amount(factor) > 0)
}

// Prefix lengths by which networks are distinguished. A customer usually has a whole
// /48 of IPv6, and the addresses that a provider gives to one customer usually are in
// one /24 of IPv4.
const (
	bits4 = 24
	bits6 = 48
)

// networkOf returns the network of an address, or false for an invalid address.
func networkOf(a netip.Addr) (netip.Prefix, bool) {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	return p, err == nil && a.IsValid()
}
