package resource

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Parser returns the parser of the subdirective oauth. Its errors name the line of
// the mistake.
func Parser(into **OAuth, declared *keys.Catalogue) grammar.Parser {
	return func(d *caddyfile.Dispenser) error {
		here := *d
		if d.NextArg() {
			return d.Errf("oauth takes a block and no arguments, not %q", d.Val())
		}
		o := new(OAuth)
		one := func(into *string, check func() error) func(d *caddyfile.Dispenser) error {
			return func(d *caddyfile.Dispenser) error {
				if err := grammar.Arg(d, into); err != nil {
					return err
				}
				return wrapped(d, check())
			}
		}
		some := func(into *[]string, check func() error) func(d *caddyfile.Dispenser) error {
			return func(d *caddyfile.Dispenser) error {
				if err := grammar.Args(d, into); err != nil {
					return err
				}
				return wrapped(d, check())
			}
		}
		err := grammar.Block(d, "oauth", grammar.Subdirectives{
			"resource":              one(&o.Resource, o.checkResource),
			"authorization_servers": some(&o.AuthorizationServers, o.checkServers),
			"scopes":                some(&o.Scopes, func() error { return o.checkScopes(declared) }),
			"name":                  grammar.Text(&o.Name),
			"documentation":         one(&o.Documentation, o.checkDocumentation),
		})
		if err != nil {
			return err
		}
		*into = o
		return wrapped(&here, o.check(declared))
	}
}

// wrapped adds the dispenser's position to an error. It returns nil for a nil error.
func wrapped(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.Errf("oauth: %v", err)
}
