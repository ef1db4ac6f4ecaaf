// Package pricing compiles a server's price book and quotes tool calls from
// it. A Book never changes after it was compiled and may be used by many
// goroutines at once; a quote of an exact name does not allocate.
package pricing

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Rule prices the tools that a pattern names.
type Rule struct {
	// Pattern is a tool name, or a glob in which '*' stands for any run of
	// characters except '/', '?' for one, and '[a-z]' for a class.
	Pattern string
	// Amount of one call; zero means free.
	Amount ledger.Amount
}

// Default says what becomes of tools that no rule names. Its zero value denies.
type Default struct {
	Allow  bool
	Amount ledger.Amount // with Allow: zero means free
}

// Other is the label of quotes that no entry of the book gave, so that metrics
// have no more labels than the book has entries.
const Other = "other"

// Quote is what one call costs.
type Quote struct {
	Amount ledger.Amount // zero: the call is free
	Entry  string        // the rule's pattern, or Other: a bounded label
}

// ErrUnpriced says that the book has no price for the tool and denies it.
var ErrUnpriced = errors.New("tool has no price")

// Book is a compiled price book.
type Book struct {
	exact    map[string]Quote
	globs    []Rule
	fallback Default
}

// Compile checks the rules and makes a book of them. Exact names win over
// globs, whatever their order; among globs the first match wins. A pattern
// that stands twice is an error, as is an amount below zero.
func Compile(rules []Rule, fallback Default) (*Book, error) {
	b := &Book{exact: make(map[string]Quote), fallback: fallback}
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		switch {
		case r.Pattern == "":
			return nil, errors.New("a price needs the name of a tool, or a pattern")
		case seen[r.Pattern]:
			return nil, fmt.Errorf("tool %q is priced twice", r.Pattern)
		case r.Amount < 0:
			return nil, fmt.Errorf("price of %q is below zero: %s", r.Pattern, r.Amount)
		}
		seen[r.Pattern] = true
		if !strings.ContainsAny(r.Pattern, `*?[\`) {
			b.exact[r.Pattern] = Quote{Amount: r.Amount, Entry: r.Pattern}
			continue
		}
		if _, err := path.Match(r.Pattern, ""); err != nil {
			return nil, fmt.Errorf("pattern %q of a price cannot be read: %w", r.Pattern, err)
		}
		b.globs = append(b.globs, r)
	}
	if fallback.Amount < 0 {
		return nil, fmt.Errorf("price of unpriced tools is below zero: %s", fallback.Amount)
	}
	return b, nil
}

// Quote returns what a call of the tool costs, or ErrUnpriced.
func (b *Book) Quote(tool string) (Quote, error) {
	if q, ok := b.exact[tool]; ok {
		return q, nil
	}
	for _, r := range b.globs {
		if ok, _ := path.Match(r.Pattern, tool); ok { // Compile has checked the pattern
			return Quote{Amount: r.Amount, Entry: r.Pattern}, nil
		}
	}
	if !b.fallback.Allow {
		return Quote{Entry: Other}, ErrUnpriced
	}
	return Quote{Amount: b.fallback.Amount, Entry: Other}, nil
}
