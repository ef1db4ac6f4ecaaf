package pricebook

import (
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Price is the price of one call. It applies to the tools, prompts or resources that
// match a pattern.
type Price struct {
	// The name of a tool, or a pattern with `*`, `?` and `[a-z]`. After `prompt:`,
	// the name or pattern of a prompt. After `resource:`, a URI in which `*` and
	// `{anything}` match any run of characters.
	Tool string `json:"tool"`

	// The price of one call, a decimal with at most six places; `0` is free.
	// Required, unless `cel` is set.
	Amount string `json:"amount,omitempty"`

	// An expression in the Common Expression Language (CEL) that gives the price of
	// a call in micro-units, as int: `size(args.text) * 2`. In it, `args` has the
	// arguments of the call, and `tool` is the name or the URI of the item. A call
	// is refused if the expression does not give a price from 0 to `max`.
	CEL string `json:"cel,omitempty"`

	// The highest price that the expression may give, a decimal. Required with
	// `cel`.
	Max string `json:"max,omitempty"`

	// The charged ends of a call at this price. Default: the handler's `charge_on`,
	// which lists the possible ends.
	ChargeOn []string `json:"charge_on,omitempty"`

	// A CEL expression that decides whether a result is charged. Default: for tools,
	// the handler's `charge_if`; for prompts and resources, none.
	ChargeIf string `json:"charge_if,omitempty"`

	// The position of the price in the Caddyfile, as `FILE:LINE`.
	Source string `json:"source,omitempty"`
}

// Free reports whether every call at this price is free.
func (p *Price) Free() bool {
	amount, err := ledger.ParseAmount(p.Amount)
	return p.CEL == "" && err == nil && amount == 0
}

// at formats a position in the Caddyfile for an error, in brackets. It returns "" if
// source is empty.
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
			continue // compileNotifications compiles the rules for notifications
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

// rule translates the price for package pricing. Its arguments are the handler's
// charge_on and charge_if, which apply if the price does not have its own. The
// handler's charge_if applies only to tools. A call that is charged at its start has no
// result yet, so the handler's charge_if does not apply to it.
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
