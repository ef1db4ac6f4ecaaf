package caddymodule

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// placeOf says where the token at hand stands.
func placeOf(d *caddyfile.Dispenser) string { return d.File() + ":" + strconv.Itoa(d.Line()) }

func (h *Handler) parsePrice(d *caddyfile.Dispenser) error {
	p := Price{Source: placeOf(d)}
	if !d.Args(&p.Tool, &p.Amount) {
		return d.Err("price: want a tool and an amount, as in: price get_forecast 0.01")
	}
	if err := h.checkItem(d, p.Tool); err != nil {
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
	h.Prices = append(h.Prices, p)
	return nil
}

// parseTerms reads the terms after a price's amount: the ends and the results that
// are charged.
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
	if _, err := compileBook([]Price{p.anywhere()}, nil, unpricedDeny, nil, ""); err != nil { // here the line is known
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) parseChargeOn(d *caddyfile.Dispenser) error {
	h.ChargeOn = d.RemainingArgs()
	if _, err := pricing.ParseChargeOn(h.ChargeOn); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

const wantChargeIf = `charge_if: want one expression over the result, in quotes, as in: charge_if "!has(result.structuredContent.error)"`

func (h *Handler) parseChargeIf(d *caddyfile.Dispenser) error {
	if !d.Args(&h.ChargeIf) || d.NextArg() || h.ChargeIf == "" {
		return d.Err(wantChargeIf)
	}
	if _, err := pricing.Compile(nil, pricing.Default{ChargeIf: h.ChargeIf}); err != nil {
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

func (h *Handler) parseFree(d *caddyfile.Dispenser) error {
	var tools []string
	source := placeOf(d)
	if err := someArgs(d, &tools); err != nil {
		return err
	}
	for _, tool := range tools {
		if err := h.checkItem(d, tool); err != nil {
			return err
		}
		h.Prices = append(h.Prices, Price{Tool: tool, Amount: "0", Source: source})
	}
	return nil
}

func (h *Handler) parseUnpriced(d *caddyfile.Dispenser) error {
	if err := oneArg(d, &h.Unpriced); err != nil {
		return err
	}
	if h.Unpriced == unpricedDeny || h.Unpriced == unpricedFree {
		return nil
	}
	if _, err := ledger.ParseAmount(h.Unpriced); err != nil {
		return d.Errf("unpriced: want deny, free or an amount, not %q", h.Unpriced)
	}
	return checkAmount(d, h.Unpriced)
}
