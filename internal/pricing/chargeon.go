package pricing

import (
	"errors"
	"fmt"
	"strings"
)

// ChargeOn is a set of the ends of a call that are charged. Its zero value
// stands for Success alone.
type ChargeOn uint8

// The ends of a call.
const (
	// Success charges a result.
	Success ChargeOn = 1 << iota
	// ToolError charges a result that says isError, too.
	ToolError
	// Abandoned charges a call whose client has left, if its answer would have
	// been charged.
	Abandoned
	// Started charges a call before it is forwarded, whatever becomes of it.
	Started
)

// chargeOnWords are the names of the ends, in the order of their bits.
var chargeOnWords = []string{"success", "tool_error", "abandoned", "started"}

// ParseChargeOn returns the set that the words name: success, tool_error,
// abandoned, started, each at most once. No word at all is an error, as is a
// set that charges no answer.
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

// Has reports whether the set has all of those ends.
func (c ChargeOn) Has(ends ChargeOn) bool { return c&ends == ends }

// String returns the words, with spaces between them.
func (c ChargeOn) String() string {
	var words []string
	for i, word := range chargeOnWords {
		if c.Has(1 << i) {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// complete returns the set with its default in place, or why it cannot be
// meant: abandoned alone speaks of answers that would be charged, and there
// are none.
func (c ChargeOn) complete() (ChargeOn, error) {
	switch {
	case c == 0:
		return Success, nil
	case c >= 1<<len(chargeOnWords):
		return 0, fmt.Errorf("charge_on: %d names no ends of calls", uint8(c))
	case c == Abandoned:
		return 0, errors.New("charge_on: abandoned alone charges nothing: say which answers cost, as in success abandoned")
	}
	return c, nil
}
