package ledger

import (
	"fmt"
	"math/bits"
	"strings"
)

// Share is a part of an amount, in millionths: 25,000 is 2.5 %.
type Share int64

// whole is a share of 100 %.
const whole Share = 1_000_000

// ParseShare reads a percentage of at most four decimal places, such as "2.5%",
// from 0 to 100 %.
func ParseShare(s string) (Share, error) {
	number, percent := strings.CutSuffix(s, "%")
	amount, err := ParseAmount(number)
	if err != nil || !percent || amount < 0 || amount > 100*Unit || amount%100 != 0 {
		return 0, fmt.Errorf("%q is not a share: want 0%% to 100%% with at most four decimal places, as in 2.5%%", s)
	}
	return Share(amount / 100), nil
}

// Of returns the share of a non-negative amount, rounded down.
func (s Share) Of(a Amount) Amount { return proportion(a, int64(s), int64(whole)) }

// proportion returns a * part / of, rounded down, without intermediate overflow. It
// requires 0 <= a, 0 <= part <= of and 0 < of.
func proportion(a Amount, part, of int64) Amount {
	high, low := bits.Mul64(uint64(a), uint64(part))
	quotient, _ := bits.Div64(high, low, uint64(of))
	return Amount(quotient)
}

// FeeReturned returns the part of a charge's fee that a refund gives back. The part is
// proportional to the refund, so that all refunds of a charge together give back at
// most its fee, and a full refund gives back all of it. The arguments are the charge's
// fee, the charge's amount, the sum of the charge's earlier refunds, and the amount of
// this refund.
func FeeReturned(fee, amount, before, refund Amount) Amount {
	if amount <= 0 {
		return 0
	}
	return proportion(fee, int64(before+refund), int64(amount)) - proportion(fee, int64(before), int64(amount))
}
