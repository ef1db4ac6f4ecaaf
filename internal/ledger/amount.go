package ledger

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Amount is an amount of money in micro-units of the installation's one currency: 1
// USD is 1,000,000. Decimals exist only in text, which is parsed and printed
// exactly. No float ever holds money.
type Amount int64

// Unit is one whole unit of the currency.
const Unit Amount = 1_000_000

const decimals = 6

// ErrOverflow says that a sum does not fit an Amount.
var ErrOverflow = errors.New("amount out of range")

// ParseAmount reads a decimal with at most six places, such as "5", "0.01" or
// "-1.250000". More places, exponents, signs other than one leading minus,
// white space and separators are errors. A number out of range is an ErrOverflow.
func ParseAmount(s string) (Amount, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	switch {
	case !allDigits(whole) || point && !allDigits(fraction):
		return 0, fmt.Errorf("%q is not an amount: want digits and at most one point, as in 0.01", s)
	case len(fraction) > decimals:
		return 0, fmt.Errorf("amount %q has %d decimal places: at most %d are allowed", s, len(fraction), decimals)
	}
	micro, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", decimals-len(fraction)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("amount %q: %w: at most %s", s, ErrOverflow, Amount(math.MaxInt64))
	}
	if negative {
		return -Amount(micro), nil
	}
	return Amount(micro), nil
}

func allDigits(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// String prints the amount with two to six decimals, as "5.00" or "0.0025".
func (a Amount) String() string {
	var buffer [len("-9223372036854.775808")]byte
	text, micro := buffer[:0], uint64(a)
	if a < 0 {
		text, micro = append(text, '-'), -micro // correct for math.MinInt64, too
	}
	text = append(strconv.AppendUint(text, micro/uint64(Unit), 10), '.')
	point := len(text)
	for digit := uint64(Unit) / 10; digit > 0; digit /= 10 {
		text = append(text, '0'+byte(micro/digit%10))
	}
	for len(text) > point+2 && text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	return string(text)
}

// MarshalText returns the same text as String. So JSON holds an amount as a string,
// which no parser turns into a float.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads every text that ParseAmount accepts.
func (a *Amount) UnmarshalText(text []byte) error {
	v, err := ParseAmount(string(text))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// Add returns a+b, or ErrOverflow if the sum does not fit.
func (a Amount) Add(b Amount) (Amount, error) {
	sum := a + b
	if (sum > a) != (b > 0) {
		return 0, ErrOverflow
	}
	return sum, nil
}

// Sub returns a-b, or ErrOverflow if the difference does not fit.
func (a Amount) Sub(b Amount) (Amount, error) {
	difference := a - b
	if (difference < a) != (b > 0) {
		return 0, ErrOverflow
	}
	return difference, nil
}
