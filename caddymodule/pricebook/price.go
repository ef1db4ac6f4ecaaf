package pricebook

import (
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Price is the price of calls of some tools, or of some prompts or resources.
type Price struct {
	// The name of a tool, or a pattern with `*`, `?` and `[a-z]`; the same of a
	// prompt after `prompt:`; or after `resource:` a URI, in which `*` and
	// `{anything}` stand for any run of characters.
	Tool string `json:"tool"`

	// The amount of one call, a decimal with at most six places; `0` is free.
	// Required, unless there is an expression.
	Amount string `json:"amount,omitempty"`

	// An expression in the Common Expression Language (CEL) that gives the
	// price of a call in micro-units, as int: `size(args.text) * 2`. `args` are
	// the call's arguments, `tool` is the name or the URI. A call for which it gives
	// no price from 0 to `max` is refused.
	CEL string `json:"cel,omitempty"`

	// The most that the expression may ask, a decimal. Required with `cel`.
	Max string `json:"max,omitempty"`

	// Which ends of these calls are charged. Default: the handler's.
	ChargeOn []string `json:"charge_on,omitempty"`

	// An expression that decides whether a result is charged. Default: the
	// handler's for tools; no expression for prompts and resources.
	ChargeIf string `json:"charge_if,omitempty"`

	// Where the price stands in the Caddyfile, as `FILE:LINE`.
	Source string `json:"source,omitempty"`
}

// Free reports whether every call at this price is free.
func (p *Price) Free() bool {
	amount, err := ledger.ParseAmount(p.Amount)
	return p.CEL == "" && err == nil && amount == 0
}

// at renders a place in a Caddyfile, in brackets; "" without one.
func at(source string) string {
	if source == "" {
		return ""
	}
	return " (" + source + ")"
}

// compileBook compiles the prices of tools, prompts, resources and methods.
func (t *Terms) compileBook() (*pricing.Book, error) {
	fallback := pricing.Default{ChargeIf: t.ChargeIf}
	var err error
	if len(t.ChargeOn) > 0 {
		if fallback.ChargeOn, err = pricing.ParseChargeOn(t.ChargeOn); err != nil {
			return nil, err
		}
	}
	rules := make([]pricing.Rule, len(t.Prices))
	for i, p := range t.Prices {
		if rules[i], err = p.rule(fallback.ChargeOn, t.ChargeIf); err != nil {
			return nil, fmt.Errorf("price of %q%s: %w", p.Tool, at(p.Source), err)
		}
	}
	for _, m := range t.Methods {
		if m.ofNotification() {
			continue // see compileNotifications
		}
		r, err := m.rule(fallback.ChargeOn)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	switch t.Unpriced {
	case Deny:
	case Free:
		fallback.Allow = true
	default:
		amount, err := ledger.ParseAmount(t.Unpriced)
		if err != nil {
			return nil, fmt.Errorf("unpriced: want deny, free or an amount: %w", err)
		}
		fallback.Allow, fallback.Amount = true, amount
	}
	return pricing.Compile(rules, fallback)
}

// rule returns the price as package pricing knows it, with the handler's charge_on
// and charge_if unless it has its own. The handler's charge_if is for results of
// tools, and not for calls that are charged at their start.
func (p *Price) rule(on pricing.ChargeOn, chargeIf string) (r pricing.Rule, err error) {
	r = pricing.Rule{Pattern: p.Tool, CEL: p.CEL, ChargeOn: on, ChargeIf: p.ChargeIf}
	if len(p.ChargeOn) > 0 {
		if r.ChargeOn, err = pricing.ParseChargeOn(p.ChargeOn); err != nil {
			return r, err
		}
	}
	item, err := items.Parse(p.Tool)
	switch {
	case err != nil:
		return r, err
	case item.Kind == items.Method:
		return r, errors.New("the prices of methods stand in methods")
	case item.Kind == items.Tool && r.ChargeIf == "" && !r.ChargeOn.Has(pricing.Started):
		r.ChargeIf = chargeIf
	}
	switch {
	case p.CEL != "" && p.Amount != "":
		return r, errors.New("want an amount or an expression, not both")
	case p.CEL == "" && p.Max != "":
		return r, errors.New("max belongs to a price by expression")
	case p.CEL == "":
		r.Amount, err = ledger.ParseAmount(p.Amount)
		return r, err
	case p.Max == "":
		return r, errors.New("an expression needs a max: the most that a call may cost")
	}
	if r.Max, err = ledger.ParseAmount(p.Max); err != nil {
		return r, fmt.Errorf("max: %w", err)
	}
	return r, nil
}
