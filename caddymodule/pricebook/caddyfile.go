package pricebook

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

func (t *Terms) parsePrice(d *caddyfile.Dispenser) error {
	p := Price{Source: grammar.Place(d)}
	if !d.Args(&p.Tool, &p.Amount) {
		return d.Err("price: want a tool and an amount, as in: price get_forecast 0.01")
	}
	if err := t.checkItem(d, p.Tool); err != nil {
		return err
	}
	amount := p.Amount
	if p.Amount == "cel" {
		var word string
		if !d.Args(&p.CEL, &word, &p.Max) || word != "max" || p.CEL == "" {
			return d.Err(`price: want an expression and the most it may ask, as in: price translate cel "size(args.text) * 2" max 0.05`)
		}
		p.Amount, amount = "", p.Max
	}
	if err := checkAmount(d, amount); err != nil {
		return err
	}
	if err := p.parseTerms(d); err != nil {
		return err
	}
	t.Prices = append(t.Prices, p)
	return nil
}

// parseTerms reads the words after a price's amount: charge_on with the ends that
// are charged, and charge_if with an expression over the result.
func (p *Price) parseTerms(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "charge_on" && p.ChargeOn == nil:
			end := slices.Index(args, "charge_if")
			if end < 0 {
				end = len(args)
			}
			p.ChargeOn, args = args[:end:end], args[end:]
			if _, err := pricing.ParseChargeOn(p.ChargeOn); err != nil {
				return d.WrapErr(err)
			}
		case word == "charge_if" && p.ChargeIf == "":
			if len(args) == 0 || args[0] == "" {
				return d.Err(wantChargeIf)
			}
			p.ChargeIf, args = args[0], args[1:]
		case word == "charge_on" || word == "charge_if":
			return d.Errf("price: %s is given twice", word)
		case p.ChargeIf != "":
			return d.Errf("price: after the expression of charge_if comes nothing more, not %q: an expression with spaces stands in quotes, as in: charge_if \"result.structuredContent.ok == true\"", word)
		default:
			return d.Errf("price: after the amount comes charge_on, charge_if or nothing, not %q", word)
		}
	}
	unplaced := *p // a copy without the position in the Caddyfile, because WrapErr adds the position below
	unplaced.Source = ""
	if _, err := (&Terms{Prices: []Price{unplaced}, Unpriced: Deny}).compileBook(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (t *Terms) parseChargeOn(d *caddyfile.Dispenser) error {
	t.ChargeOn = d.RemainingArgs()
	if _, err := pricing.ParseChargeOn(t.ChargeOn); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

const wantChargeIf = `charge_if: want one expression over the result, in quotes, as in: charge_if "!has(result.structuredContent.error)"`

func (t *Terms) parseChargeIf(d *caddyfile.Dispenser) error {
	if !d.Args(&t.ChargeIf) || d.NextArg() || t.ChargeIf == "" {
		return d.Err(wantChargeIf)
	}
	if _, err := pricing.Compile(nil, pricing.Default{ChargeIf: t.ChargeIf}); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func checkAmount(d *caddyfile.Dispenser, text string) error {
	amount, err := ledger.ParseAmount(text)
	if err != nil {
		return d.WrapErr(err)
	}
	if amount < 0 {
		return d.Errf("amount %q is below zero", text)
	}
	return nil
}

func (t *Terms) parseFree(d *caddyfile.Dispenser) error {
	var tools []string
	source := grammar.Place(d)
	if err := grammar.Args(d, &tools); err != nil {
		return err
	}
	for _, tool := range tools {
		if err := t.checkItem(d, tool); err != nil {
			return err
		}
		t.Prices = append(t.Prices, Price{Tool: tool, Amount: "0", Source: source})
	}
	return nil
}

func (t *Terms) parseUnpriced(d *caddyfile.Dispenser) error {
	if err := grammar.Arg(d, &t.Unpriced); err != nil {
		return err
	}
	if t.Unpriced == Deny || t.Unpriced == Free {
		return nil
	}
	if _, err := ledger.ParseAmount(t.Unpriced); err != nil {
		return d.Errf("unpriced: want deny, free or an amount, not %q", t.Unpriced)
	}
	return checkAmount(d, t.Unpriced)
}
