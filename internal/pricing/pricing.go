// Package pricing compiles the price book of a server and returns quotes for calls of
// tools and other items. A Book is immutable and safe for concurrent use. A quote for an
// exact name with a fixed price does not allocate.
package pricing

import (
	"context"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Rule sets the price of the items that match a pattern. The price is either a fixed
// amount or an expression over the call's arguments.
type Rule struct {
	// Pattern is the name of an item, or a pattern for several items, in the form that
	// items.Parse reads. See items.Table.Add for the syntax of patterns.
	Pattern string
	// Amount is the fixed price of one call; zero means free. It must be zero if CEL
	// is set.
	Amount ledger.Amount
	// CEL is an expression in the Common Expression Language that yields micro-units as
	// int. Its variables are "args", which is the map of the call's arguments, and
	// "tool", which is the item's name without a prefix. A call without arguments has
	// an empty map.
	CEL string
	// Max is the highest price that the expression may yield. It is required if CEL is
	// set, and must be zero otherwise.
	Max ledger.Amount
	// ChargeOn is the set of outcomes that are charged; zero means Success.
	ChargeOn ChargeOn
	// ChargeIf is an optional CEL expression that yields a bool. It is evaluated for
	// each response that ChargeOn charges. If the value is false, the response is not
	// charged after all. The variables of the expression are "result", which is the
	// result in the response, and "tool", as in CEL. ChargeIf must be empty if ChargeOn
	// contains Started.
	ChargeIf string
}

// Default applies to tools without a rule. The zero value denies such tools. Items of
// other kinds are free without a rule.
type Default struct {
	Allow    bool
	Amount   ledger.Amount // price of a call if Allow is true; zero means free
	ChargeOn ChargeOn      // zero means Success
	ChargeIf string        // see Rule.ChargeIf
}

// Other is the Entry of the quotes for all items without a rule in the book. These
// items share one Entry so that the number of metric labels is bounded by the number of
// rules.
const Other = "other"

// Quote is the price of one call, with the conditions under which it is charged.
type Quote struct {
	Amount   ledger.Amount // zero means that the call is free
	Entry    string        // pattern of the rule, or Other; suitable as a metric label
	ChargeOn ChargeOn      // not zero, unless Book.Quote returned an error
	ChargeIf *Condition    // condition on the response; nil if there is no condition
}

// ErrUnpriced is returned for a tool that the book denies because it has no price. Other
// kinds of items are never denied.
var ErrUnpriced = errors.New("tool has no price")

// RefusedError is returned if an expression does not yield an acceptable price.
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
	quote   Quote    // the quote; without an amount if there is a formula
	formula *formula // computes the amount; nil for a fixed price
}

// Book is a compiled price book.
type Book struct {
	entries        items.Table[entry]
	fallback       Default
	otherIf        *Condition            // condition for tools without a rule
	conditions     map[string]*Condition // conditions by pattern of the rule
	sellsResources bool                  // whether any resource has a price
}

// Compile checks the rules and compiles them to a book. Among the rules for items of
// one kind, exact names take precedence over patterns, wherever they stand. Among the
// patterns, the first match wins. Compile returns an error for an invalid rule. For
// example, a pattern is invalid if it is malformed or repeated, or if it can never
// match. A rule is also invalid if its amount is negative, if its expression cannot
// yield an int or has no Max, or if its ChargeOn never charges.
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

// chargeIf compiles the ChargeIf expression of a rule, as l.condition does. It also
// returns an error if the rule's ChargeOn does not allow a ChargeIf.
func (l *language) chargeIf(expression string, on ChargeOn) (*Condition, error) {
	if expression != "" && on.Has(Started) {
		return nil, errStartedIf
	}
	return l.condition(expression)
}

// Condition returns the condition for a quote with the given Entry, or nil if such a
// quote has no condition. The quote may come from an earlier version of the book. If
// the rule for a tool's quote has been removed since then, Condition returns the
// condition for tools without a rule.
func (b *Book) Condition(entry string) *Condition {
	if c, ok := b.conditions[entry]; ok {
		return c
	}
	if item, err := items.Parse(entry); err == nil && item.Kind == items.Tool {
		return b.otherIf
	}
	return nil
}

// Quote returns the price of a call of the item. The arguments are the call's raw JSON
// object, which mcp.Decode has validated, or nil. Only a price by expression depends on
// the arguments. The error is ErrUnpriced, if the item is a tool that the book denies,
// or a *RefusedError. The quote's Entry is set even if there is an error.
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

// Offer is the price of calls of an item, as far as it is known without the arguments of
// a call.
type Offer struct {
	Amount ledger.Amount // price of one call; the maximum price if Varies is true
	Varies bool          // whether the price depends on the arguments
}

// Free reports whether all calls of the item are free.
func (o Offer) Free() bool { return o.Amount == 0 }

// Offer returns the price of calls of the item. The bool is false if the book denies
// the tool, or if the item is not a tool and has no rule.
func (b *Book) Offer(item items.Item) (Offer, bool) {
	if e, ok := b.entries.Find(item); ok {
		return e.offer(), true
	}
	if item.Kind != items.Tool {
		return Offer{}, false
	}
	return Offer{Amount: b.fallback.Amount}, b.fallback.Allow
}

// OfferTemplate returns the price of reading any resource of a URI template (RFC 6570).
// The bool is false if no rule has exactly the template as its pattern, because then
// different resources of the template may have different prices.
func (b *Book) OfferTemplate(template string) (Offer, bool) {
	e, ok := b.entries.FindTemplate(template)
	if !ok {
		return Offer{}, false
	}
	return e.offer(), true
}

// EntryOf returns the pattern of the rule for an item, or "" if the item has no rule. If
// template is true, the item's name is a resource template.
func (b *Book) EntryOf(item items.Item, template bool) string {
	find := b.entries.Find
	if template {
		find = func(item items.Item) (entry, bool) { return b.entries.FindTemplate(item.Name) }
	}
	e, _ := find(item)
	return e.quote.Entry
}

// Ambiguous reports whether the URI may be another spelling of a resource that has
// another price. It returns true if any resource has a price, no rule has exactly this
// URI as its name, and the URI is not in normal form.
func (b *Book) Ambiguous(uri string) bool {
	return b.sellsResources && !b.entries.HasExactly(items.Item{Kind: items.Resource, Name: uri}) && !items.IsNormalURI(uri)
}

// SellsResources reports whether any resource has a price. If so, clients must write
// URIs in normal form.
func (b *Book) SellsResources() bool { return b.sellsResources }

// Confusable reports whether a server could confuse the item's name with a name for which
// another rule applies, and returns the pattern of that rule; see items.Table.Confusable.
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
