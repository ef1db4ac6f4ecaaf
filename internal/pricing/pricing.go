// Package pricing compiles a server's price book and quotes calls of tools and other
// items from it. A Book is immutable and safe for concurrent use. A quote for an
// exact name with a fixed price does not allocate.
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
	// Pattern is the name of an item in the form of items.Parse, or a pattern of
	// items.Table.
	Pattern string
	// Amount is the price of one call; zero means free. It must be zero with CEL.
	Amount ledger.Amount
	// CEL is an expression in the Common Expression Language that yields micro-units
	// as int. Its variables are args, the call's arguments (an empty map if there
	// are none), and tool, the item's name without a prefix.
	CEL string
	// Max is the highest price that the expression may yield. It is required with
	// CEL and zero without.
	Max ledger.Amount
	// ChargeOn is the set of outcomes that are charged; zero means Success.
	ChargeOn ChargeOn
	// ChargeIf is an optional CEL expression that yields, for a response that
	// ChargeOn charges, whether it really is charged. Its variables are result, the
	// response's result, and tool. It is not allowed with Started.
	ChargeIf string
}

// Default applies to tools without a rule. The zero value denies them. Items of other
// kinds without a rule are free.
type Default struct {
	Allow    bool
	Amount   ledger.Amount // with Allow: zero means free
	ChargeOn ChargeOn      // zero means Success
	ChargeIf string        // see Rule
}

// Other is the label of quotes without an entry in the book, so that metrics have no
// more labels than the book has entries.
const Other = "other"

// Quote is the price of one call and its conditions.
type Quote struct {
	Amount   ledger.Amount // zero: the call is free
	Entry    string        // the rule's pattern, or Other: a bounded label
	ChargeOn ChargeOn      // not zero, unless the quote comes with an error
	ChargeIf *Condition    // on its responses, or nil
}

// ErrUnpriced says that the book has no price for the tool and denies it. Items of
// other kinds are never denied.
var ErrUnpriced = errors.New("tool has no price")

// RefusedError says that an expression did not yield an acceptable price.
type RefusedError struct {
	// Reason is a plain sentence for the caller. It never quotes the arguments.
	Reason string
	// Cause has details for the operator, or is nil. It never quotes the arguments
	// either.
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
	quote   Quote    // without an amount if there is a formula
	formula *formula // computes the amount; nil for a fixed price
}

// Book is a compiled price book.
type Book struct {
	entries        items.Table[entry]
	fallback       Default
	otherIf        *Condition            // for tools without a rule
	conditions     map[string]*Condition // of rules, by pattern
	sellsResources bool                  // some resource has a price
}

// Compile checks the rules and compiles them to a book. Among the rules of one kind,
// exact names take precedence over globs in any order; among globs the first match
// wins. Errors are a repeated pattern, a negative amount, an expression that cannot
// yield an int or has no maximum, and a ChargeOn that never charges.
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

// chargeIf is condition for a price with that ChargeOn.
func (l *language) chargeIf(expression string, on ChargeOn) (*Condition, error) {
	if expression != "" && on.Has(Started) {
		return nil, errStartedIf
	}
	return l.condition(expression)
}

// Condition returns the condition for the Entry of a quote, which may come from an
// earlier book, or nil.
func (b *Book) Condition(entry string) *Condition {
	if c, ok := b.conditions[entry]; ok {
		return c
	}
	if item, err := items.Parse(entry); err == nil && item.Kind == items.Tool {
		return b.otherIf
	}
	return nil
}

// Quote returns the price of a call of the item. The arguments are the raw JSON object
// of the call, already validated by the strict decoder, or nil; only expressions use
// them. The error is ErrUnpriced, for tools alone, or a *RefusedError; the quote's
// Entry is set with either.
func (b *Book) Quote(ctx context.Context, item items.Item, arguments []byte) (Quote, error) {
	if e, ok := b.entries.Find(item); ok {
		return e.quoteCall(ctx, item.Name, arguments)
	}
	if item.Kind != items.Tool {
		return Quote{Entry: Other, ChargeOn: Success}, nil
	}
	if !b.fallback.Allow {
		return Quote{Entry: Other}, ErrUnpriced
	}
	return Quote{Amount: b.fallback.Amount, Entry: Other, ChargeOn: b.fallback.ChargeOn, ChargeIf: b.otherIf}, nil
}

// Offer is the price of calls of an item, as far as it is known without their
// arguments.
type Offer struct {
	Amount ledger.Amount // per call; with Varies, the maximum
	Varies bool          // depends on the arguments
}

// Free reports whether all calls are free.
func (o Offer) Free() bool { return o.Amount == 0 }

// Offer returns the price of calls of the item. It reports false if the book denies
// the tool, or has no rule for an item of another kind.
func (b *Book) Offer(item items.Item) (Offer, bool) {
	if e, ok := b.entries.Find(item); ok {
		return e.offer(), true
	}
	if item.Kind != items.Tool {
		return Offer{}, false
	}
	return Offer{Amount: b.fallback.Amount}, b.fallback.Allow
}

// OfferTemplate returns the price of reading any resource of a template (RFC 6570). It
// reports false if no rule has exactly the template as its pattern, since then the
// price may depend on the resource.
func (b *Book) OfferTemplate(template string) (Offer, bool) {
	e, ok := b.entries.FindTemplate(template)
	if !ok {
		return Offer{}, false
	}
	return e.offer(), true
}

// EntryOf returns the pattern of the rule for an item, or with template of the rule
// for a resource template, or "".
func (b *Book) EntryOf(item items.Item, template bool) string {
	find := b.entries.Find
	if template {
		find = func(item items.Item) (entry, bool) { return b.entries.FindTemplate(item.Name) }
	}
	e, _ := find(item)
	return e.quote.Entry
}

// Ambiguous reports whether another spelling of the URI could get the resource at
// another price: some resources have a price, no rule names exactly this URI, and it
// is not in normal form.
func (b *Book) Ambiguous(uri string) bool {
	return b.sellsResources && !b.entries.HasExactly(items.Item{Kind: items.Resource, Name: uri}) && !items.IsNormalURI(uri)
}

// SellsResources reports whether some resource has a price. If so, clients must write
// URIs in normal form.
func (b *Book) SellsResources() bool { return b.sellsResources }

// Confusable reports whether a server could confuse the item's name with one that has
// another price, and returns the pattern of that price's rule; see
// items.Table.Confusable.
func (b *Book) Confusable(item items.Item) (pattern string, confusable bool) {
	return b.entries.Confusable(item)
}

// Denies reports whether the book denies tools without a rule.
func (b *Book) Denies() bool { return !b.fallback.Allow }

func (e *entry) offer() Offer {
	if e.formula != nil {
		return Offer{Amount: e.formula.max, Varies: true}
	}
	return Offer{Amount: e.quote.Amount}
}

// quoteCall returns the entry's quote for a call.
func (e *entry) quoteCall(ctx context.Context, name string, arguments []byte) (Quote, error) {
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
