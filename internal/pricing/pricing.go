// Package pricing compiles a server's price book and quotes calls of tools, and
// of what else a server offers, from it. A Book never changes after it was compiled and may be used by many
// goroutines at once; a quote of an exact name with a fixed price does not
// allocate.
package pricing

import (
	"context"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Rule prices the items that a pattern names, by a fixed amount or by an
// expression over the call's arguments.
type Rule struct {
	// Pattern is the name of an item, as items.Parse reads it, or a pattern, as
	// items.Table has them.
	Pattern string
	// Amount of one call; zero means free. It must be zero beside CEL.
	Amount ledger.Amount
	// CEL is an expression in the Common Expression Language that gives
	// micro-units as int. It sees args, the call's arguments (an empty map if
	// there are none), and tool, the item's name without a prefix.
	CEL string
	// Max is the most that the expression may ask: required with CEL, and
	// zero without.
	Max ledger.Amount
	// ChargeOn says which ends of a call are charged; zero stands for Success.
	ChargeOn ChargeOn
	// ChargeIf is an expression in CEL that gives, of an answer that ChargeOn
	// charges, whether it is charged. It sees result, the answer's result, and
	// tool. It may be empty, and says nothing with Started.
	ChargeIf string
}

// Default says what becomes of tools that no rule names. Its zero value denies.
// Items of other kinds that no rule names are free.
type Default struct {
	Allow    bool
	Amount   ledger.Amount // with Allow: zero means free
	ChargeOn ChargeOn      // zero stands for Success
	ChargeIf string        // see Rule
}

// Other is the label of quotes that no entry of the book gave, so that metrics
// have no more labels than the book has entries.
const Other = "other"

// Quote is what one call costs, and when.
type Quote struct {
	Amount   ledger.Amount // zero: the call is free
	Entry    string        // the rule's pattern, or Other: a bounded label
	ChargeOn ChargeOn      // never zero but in a quote that comes with an error
	ChargeIf *Condition    // of its answers; nil for none
}

// ErrUnpriced says that the book has no price for the tool and denies it. It is
// about tools alone.
var ErrUnpriced = errors.New("tool has no price")

// RefusedError says that an expression gave no price that may be asked.
type RefusedError struct {
	// Reason is a plain sentence for the caller. It quotes nothing of the
	// arguments.
	Reason string
	// Cause is for the operator, nil if the reason says it all. It quotes
	// nothing of the arguments either.
	Cause error
}

// Error returns the reason and the cause.
func (e *RefusedError) Error() string {
	if e.Cause == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }

// entry is a compiled rule.
type entry struct {
	quote   Quote    // complete, unless there is a formula
	formula *formula // gives the amount; nil for a fixed price
}

// Book is a compiled price book.
type Book struct {
	entries  items.Table[entry]
	fallback Default
	// otherIf is the condition of unpriced tools, and conditions has those of rules
	// by their patterns.
	otherIf    *Condition
	conditions map[string]*Condition
	// sellsResources says that some resource has a price.
	sellsResources bool
}

// Compile checks the rules and makes a book of them. Among the rules of one
// kind, exact names win over globs, whatever their order; among globs the first
// match wins. A pattern that stands twice is an error, as are an amount below
// zero, an expression that cannot give an int or has no maximum, and a ChargeOn
// that charges nothing.
func Compile(rules []Rule, fallback Default) (*Book, error) {
	b := &Book{fallback: fallback, conditions: make(map[string]*Condition)}
	var lang language
	for _, r := range rules {
		item, err := items.Parse(r.Pattern)
		if err != nil {
			return nil, err
		}
		e, err := lang.entry(r)
		if err == nil {
			err = b.entries.Add(item, e)
		}
		if err != nil {
			return nil, fmt.Errorf("price of %q: %w", r.Pattern, err)
		}
		b.conditions[r.Pattern] = e.quote.ChargeIf
		b.sellsResources = b.sellsResources || item.Kind == items.Resource && !e.offer().Free()
	}
	if fallback.Amount < 0 {
		return nil, fmt.Errorf("price of unpriced tools is below zero: %s", fallback.Amount)
	}
	var err error
	if b.fallback.ChargeOn, err = fallback.ChargeOn.complete(); err != nil {
		return nil, fmt.Errorf("price of unpriced tools: %w", err)
	}
	b.otherIf, err = lang.chargeIf(fallback.ChargeIf, b.fallback.ChargeOn)
	return b, err
}

// entry compiles one rule.
func (l *language) entry(r Rule) (entry, error) {
	on, err := r.ChargeOn.complete()
	if err != nil {
		return entry{}, err
	}
	e := entry{quote: Quote{Amount: r.Amount, Entry: r.Pattern, ChargeOn: on}}
	if e.quote.ChargeIf, err = l.chargeIf(r.ChargeIf, on); err != nil {
		return entry{}, err
	}
	switch {
	case r.Amount < 0:
		return entry{}, fmt.Errorf("it is below zero: %s", r.Amount)
	case r.CEL == "" && r.Max != 0:
		return entry{}, errors.New("max belongs to a price by expression")
	case r.CEL == "":
		return e, nil
	case r.Amount != 0:
		return entry{}, errors.New("want an amount or an expression, not both")
	case r.Max <= 0:
		return entry{}, errors.New("an expression needs a max above zero: the most that a call may cost")
	}
	e.formula, err = l.compile(r.CEL, r.Max)
	return e, err
}

var errStartedIf = errors.New("charge_if is about results, and charge_on started charges before there is one: leave one of them out")

// chargeIf is condition for a price with those ends.
func (l *language) chargeIf(expression string, on ChargeOn) (*Condition, error) {
	if expression != "" && on.Has(Started) {
		return nil, errStartedIf
	}
	return l.condition(expression)
}

// Condition returns the condition of a price, by a quote's Entry that this book or
// one before it has given; nil if it has none.
func (b *Book) Condition(entry string) *Condition {
	if c, ok := b.conditions[entry]; ok {
		return c
	}
	if item, err := items.Parse(entry); err == nil && item.Kind == items.Tool {
		return b.otherIf
	}
	return nil
}

// Quote returns what a call of the item costs. The arguments are the raw JSON
// object of the call, strictly decoded before, or nil if it has none; only
// prices by expression look at them. The error is ErrUnpriced, for tools alone,
// or a *RefusedError; the quote's Entry is set with either.
func (b *Book) Quote(ctx context.Context, item items.Item, arguments []byte) (Quote, error) {
	if e, ok := b.entries.Find(item); ok {
		return e.of(ctx, item.Name, arguments)
	}
	if item.Kind != items.Tool {
		return Quote{Entry: Other, ChargeOn: Success}, nil
	}
	if !b.fallback.Allow {
		return Quote{Entry: Other}, ErrUnpriced
	}
	return Quote{Amount: b.fallback.Amount, Entry: Other, ChargeOn: b.fallback.ChargeOn, ChargeIf: b.otherIf}, nil
}

// Offer is what the book asks for calls of an item, as far as that is known
// without their arguments.
type Offer struct {
	Amount ledger.Amount // of each call, or with Varies the most that one costs
	Varies bool          // the arguments decide
}

// Free reports whether all calls are free.
func (o Offer) Free() bool { return o.Amount == 0 }

// Offer returns what calls of the item cost. false says that the book denies
// them, of a tool, or else that no rule names the item.
func (b *Book) Offer(item items.Item) (Offer, bool) {
	if e, ok := b.entries.Find(item); ok {
		return e.offer(), true
	}
	if item.Kind != items.Tool {
		return Offer{}, false
	}
	return Offer{Amount: b.fallback.Amount}, b.fallback.Allow
}

// OfferTemplate returns what it costs to read any resource of a template
// (RFC 6570). false says that this cannot be told: no rule has exactly the
// template for its pattern.
func (b *Book) OfferTemplate(template string) (Offer, bool) {
	e, ok := b.entries.FindTemplate(template)
	if !ok {
		return Offer{}, false
	}
	return e.offer(), true
}

// EntryOf returns the pattern of the rule that an item goes by, or that a template
// of resources has for its own; "" if there is none.
func (b *Book) EntryOf(item items.Item, template bool) string {
	find := b.entries.Find
	if template {
		find = func(item items.Item) (entry, bool) { return b.entries.FindTemplate(item.Name) }
	}
	e, _ := find(item)
	return e.quote.Entry
}

// Ambiguous reports whether a resource may be had under another price by
// writing its URI differently: some resources have a price, no rule names this
// URI exactly, and it is not written in its normal form.
func (b *Book) Ambiguous(uri string) bool {
	return b.sellsResources && !b.entries.HasExactly(items.Item{Kind: items.Resource, Name: uri}) && !items.IsNormalURI(uri)
}

// SellsResources reports whether some resource has a price. Then clients have to
// write URIs in their normal form.
func (b *Book) SellsResources() bool { return b.sellsResources }

// Confusable reports whether a server could take the item's name for one that
// has another price; see items.Table.Confusable. The pattern is of the rule that
// has it.
func (b *Book) Confusable(item items.Item) (pattern string, confusable bool) {
	return b.entries.Confusable(item)
}

// Denies reports whether there may be tools that the book denies.
func (b *Book) Denies() bool { return !b.fallback.Allow }

func (e *entry) offer() Offer {
	if e.formula != nil {
		return Offer{Amount: e.formula.max, Varies: true}
	}
	return Offer{Amount: e.quote.Amount}
}

// of returns the entry's quote for a call.
func (e *entry) of(ctx context.Context, name string, arguments []byte) (Quote, error) {
	if e.formula == nil {
		return e.quote, nil
	}
	amount, err := e.formula.price(ctx, name, arguments)
	if err != nil {
		return Quote{Entry: e.quote.Entry}, err
	}
	q := e.quote
	q.Amount = amount
	return q, nil
}
