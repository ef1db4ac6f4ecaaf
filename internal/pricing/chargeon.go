package pricing

import (
	"errors"
	"fmt"
	"strings"
)

// ChargeOn is the set of outcomes for which a call is charged. The zero value means
// Success alone.
type ChargeOn uint8

// The outcomes for which a call can be charged.
const (
	// Success is a result without isError.
	Success ChargeOn = 1 << iota
	// ToolError is a result with isError.
	ToolError
	// With Abandoned, a call is charged even if the client has abandoned it, provided
	// that the outcome of the response is in the set, too.
	Abandoned
	// With Started, a call is charged before it is forwarded, whatever its outcome.
	Started
)

// chargeOnWords are the names of the outcomes, in the order of their bits.
var chargeOnWords = []string{"success", "tool_error", "abandoned", "started"}

// ParseChargeOn returns the set of outcomes for the given words. The words are success,
// tool_error, abandoned and started. An empty list, a repeated word, and a set that
// never charges are errors.
func ParseChargeOn(words []string) (ChargeOn, error) {
	if len(words) == 0 {
		return 0, fmt.Errorf("charge_on: want one or more of %s", strings.Join(chargeOnWords, ", "))
	}
	var on ChargeOn
	for _, word := range words {
		bit := ChargeOn(0)
		for i, known := range chargeOnWords {
			if word == known {
				bit = 1 << i
			}
		}
		switch {
		case bit == 0:
			return 0, fmt.Errorf("charge_on: unknown %q; known: %s", word, strings.Join(chargeOnWords, ", "))
		case on.Has(bit):
			return 0, fmt.Errorf("charge_on: %s is given twice", word)
		}
		on |= bit
	}
	return on.complete()
}

// Has reports whether the set contains all the given outcomes.
func (c ChargeOn) Has(outcomes ChargeOn) bool { return c&outcomes == outcomes }

// String returns the words, separated by spaces.
func (c ChargeOn) String() string {
	var words []string
	for i, word := range chargeOnWords {
		if c.Has(1 << i) {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// complete replaces the zero set with its default. It refuses a set that contains only
// Abandoned. Such a set never charges, because Abandoned has an effect only together
// with Success or ToolError.
func (c ChargeOn) complete() (ChargeOn, error) {
	switch {
	case c == 0:
		return Success, nil
	case c >= 1<<len(chargeOnWords):
		return 0, fmt.Errorf("charge_on: %d is not a set of outcomes", uint8(c))
	case c == Abandoned:
		return 0, errors.New("charge_on: abandoned alone charges nothing: say which answers cost, as in success abandoned")
	}
	return c, nil
}
