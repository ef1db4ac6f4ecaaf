package issuers

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/issuer"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Parser returns the parser of the subdirective issuer, which may be repeated. All scopes
// in it must be in declared:
//
//	issuer <url> {
//	    audience <audience>...
//	    account <claim>|cel <expression> [trusted]
//	    create [credit <amount>]
//	    scopes <claim>
//	    map <value> <scope>...
//	    algorithms <algorithm>...
//	    environment live|test
//	    jwks <url>
//	    introspection <url> <client id> <secret>
//	    skew <duration>
//	    max_lifetime <duration>
//	    cap call|day|month <amount>
//	    rate_limit <requests>/<duration> [burst <requests>]
//	}
func Parser(into *[]Issuer, declared *keys.Catalogue) grammar.Parser {
	return func(d *caddyfile.Dispenser) error {
		here := *d
		var i Issuer
		if err := grammar.Arg(d, &i.Issuer); err != nil {
			return err
		}
		err := grammar.Block(d, "issuer", grammar.Subdirectives{
			"audience":      grammar.Texts(&i.Audience),
			"account":       i.parseAccount,
			"create":        i.parseCreate,
			"scopes":        grammar.Text(&i.Scopes),
			"map":           i.parseMap,
			"algorithms":    i.parseAlgorithms,
			"environment":   grammar.Checked(&i.Environment, func(name string) error { _, err := keys.ParseEnvironment(name); return err }),
			"jwks":          grammar.Checked(&i.JWKS, func(text string) error { _, err := issuer.CheckURL(text); return err }),
			"introspection": i.parseIntrospection,
			"skew":          grammar.Duration(&i.Skew),
			"max_lifetime":  grammar.Duration(&i.MaxLifetime),
			"cap":           i.parseCap,
			"rate_limit":    i.parseRate,
		}, "audience", "map", "cap")
		if err != nil {
			return err
		}
		if err := i.Check(declared); err != nil {
			return here.Errf("issuer: %v", err)
		}
		for _, other := range *into {
			if other.Issuer == i.Issuer {
				return here.Errf("issuer: %s is named twice", i.Issuer)
			}
		}
		*into = append(*into, i)
		return nil
	}
}

func (i *Issuer) parseAccount(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	a := new(Account)
	if n := len(args); n > 1 && args[n-1] == "trusted" {
		a.Trusted, args = true, args[:n-1]
	}
	switch {
	case len(args) == 2 && args[0] == "cel":
		a.CEL = args[1]
	case len(args) == 1 && args[0] != "cel":
		a.Claim = args[0]
	default:
		return d.Err(`account: want a claim or an expression, and perhaps trusted, as in: account sub, or: account cel "claims.org.id" trusted`)
	}
	i.Account = a
	return nil
}

func (i *Issuer) parseCreate(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	i.Create = new(Create)
	switch {
	case len(args) == 0:
	case len(args) == 2 && args[0] == "credit":
		i.Create.Credit = args[1]
	default:
		return d.Err("create: want nothing or a starting credit, as in: create credit 1.00")
	}
	return nil
}

func (i *Issuer) parseMap(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Err("map: want a value of the claim, and the scopes that it gives, as in: map reader forecast.read")
	}
	i.Map = append(i.Map, Mapping{Value: args[0], Scopes: args[1:]})
	return nil
}

func (i *Issuer) parseAlgorithms(d *caddyfile.Dispenser) error {
	if err := grammar.Args(d, &i.Algorithms); err != nil {
		return err
	}
	for _, name := range i.Algorithms {
		if err := issuer.CheckAlgorithm(name); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

func (i *Issuer) parseIntrospection(d *caddyfile.Dispenser) error {
	n := new(Introspection)
	if !d.Args(&n.URL, &n.ClientID, &n.Secret) || d.NextArg() {
		return d.Err("introspection: want an address, a client id and its secret, as in: introspection https://idp.example.com/introspect farebox {env.IDP_SECRET}")
	}
	i.Introspection = n
	return nil
}

func (i *Issuer) parseCap(d *caddyfile.Dispenser) error {
	var period, amount string
	if !d.Args(&period, &amount) || d.NextArg() {
		return d.Err("cap: want call, day or month, and an amount, as in: cap day 20.00")
	}
	if i.Caps == nil {
		i.Caps = new(Caps)
	}
	place := i.Caps.place(period)
	switch {
	case place == nil:
		return d.Errf("cap: unknown period %q; known: call, day, month", period)
	case *place != "":
		return d.Errf("cap: %s is given twice", period)
	}
	*place = amount
	return nil
}

func (i *Issuer) parseRate(d *caddyfile.Dispenser) error {
	i.RateLimit = strings.Join(d.RemainingArgs(), " ")
	if _, err := keys.ParseRate(i.RateLimit); err != nil {
		return d.Errf("rate_limit: %v", err)
	}
	return nil
}
