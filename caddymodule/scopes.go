package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Scopes declares the scopes that keys may have beyond those of their kind.
type Scopes struct {
	// The scopes of a personal key that is created without any.
	Default []string `json:"default,omitempty"`

	// The declared scopes.
	Declared []Scope `json:"declared,omitempty"`
}

// Scope is a scope that keys may have.
type Scope struct {
	// Its name: letters, digits, `_`, `.`, `:` and `-`.
	Name string `json:"name"`

	// Its meaning, for people.
	Description string `json:"description,omitempty"`

	// The scopes that this one includes. A key with this scope also has the included
	// scopes, and all scopes that those include in turn.
	Includes []string `json:"includes,omitempty"`
}

// catalogue compiles the declared scopes. It returns nil for a nil Scopes.
func (s *Scopes) catalogue() (*keys.Catalogue, error) {
	if s == nil {
		return nil, nil
	}
	declared := make([]keys.Scope, len(s.Declared))
	for i, scope := range s.Declared {
		declared[i] = keys.Scope(scope)
	}
	return keys.NewCatalogue(declared, s.Default)
}

// parseScopes reads the catalogue. A line may name a scope that a later line
// declares, so the catalogue is checked only as a whole. An error still names the
// line of the wrong scope.
func (a *App) parseScopes(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("scopes takes a block and no arguments, not %q", d.Val())
	}
	a.Scopes = new(Scopes)
	at := make(map[string]caddyfile.Dispenser) // by scope: the line that declares it; the line with default has the key ""
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() == "default" {
			if _, twice := at[""]; twice {
				return d.Err("scopes: default is given twice")
			}
			at[""] = *d
			if err := grammar.Args(d, &a.Scopes.Default); err != nil {
				return err
			}
			continue
		}
		scope := Scope{Name: d.Val()}
		here := *d
		if err := scope.parseRest(d); err != nil {
			return err
		}
		at[scope.Name] = here // an error about a duplicate names the second declaration
		a.Scopes.Declared = append(a.Scopes.Declared, scope)
	}
	_, err := a.Scopes.catalogue()
	var wrong *keys.ScopeError
	if errors.As(err, &wrong) {
		place := at[wrong.Scope]
		return place.WrapErr(err)
	}
	if err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// parseRest reads the rest of the line after a scope's name.
func (s *Scope) parseRest(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) > 0 && args[0] != "includes" {
		s.Description, args = args[0], args[1:]
	}
	switch {
	case len(args) == 0:
	case args[0] != "includes":
		return d.Errf("scope %q: after the description comes includes or nothing, not %q; a description of several words stands in quotes", s.Name, args[0])
	case len(args) == 1:
		return d.Errf("scope %q: includes needs the name of a scope or more", s.Name)
	default:
		s.Includes = args[1:]
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("scope %q has no block", s.Name)
	}
	return nil
}

// ScopeRule names the scopes that a key needs for the items that match a pattern.
type ScopeRule struct {
	// The name of a tool, or a pattern with `*`, `?` and `[a-z]`. After `prompt:`,
	// the name or pattern of a prompt. After `resource:`, a URI in which `*` and
	// `{anything}` match any run of characters. After `method:`, the name of a
	// method.
	Items string `json:"items"`

	// The scopes. A key needs all of them.
	Scopes []string `json:"scopes"`
}

// compileRights compiles the handler's rules for scopes. All scopes in the rules
// must be declared.
func (h *Handler) compileRights(declared *keys.Catalogue) (err error) {
	rules := make([]gate.ScopeRule, len(h.Scopes))
	for i, rule := range h.Scopes {
		rules[i] = gate.ScopeRule{Pattern: rule.Items, Scopes: rule.Scopes}
	}
	h.rights, err = gate.NewRights(declared, rules, h.Require)
	return err
}

// parseScope reads a rule. It checks the rule at once, together with the rules
// before it, so that an error names the line of the rule.
func (h *Handler) parseScope(declared *keys.Catalogue) func(d *caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) < 2 {
			return d.Err(`scope: want what it is for and the scopes that it needs, as in: scope "delete_*" billing.write`)
		}
		h.Scopes = append(h.Scopes, ScopeRule{Items: args[0], Scopes: args[1:]})
		if err := h.compileRights(declared); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func (h *Handler) parseRequire(declared *keys.Catalogue) func(d *caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if err := grammar.Args(d, &h.Require); err != nil {
			return err
		}
		if err := h.compileRights(declared); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// globalOption returns the global option, which Caddy reads before the sites. It
// returns an empty App if the config has no global option farebox.
func globalOption(h httpcaddyfile.Helper) (*App, error) {
	app := new(App)
	option, ok := h.Option("farebox").(httpcaddyfile.App)
	if !ok {
		return app, nil
	}
	if err := json.Unmarshal(option.Value, app); err != nil {
		return nil, fmt.Errorf("the global option farebox: %w", err)
	}
	return app, nil
}

// The styles of refusals.
const (
	styleMCP  = exchange.StyleMCP
	styleHTTP = exchange.StyleHTTP
)

func errStyle(style string) error {
	return fmt.Errorf("error_style: want %s or %s, not %q", styleMCP, styleHTTP, style)
}

func (h *Handler) parseErrorStyle(d *caddyfile.Dispenser) error {
	if err := grammar.Arg(d, &h.ErrorStyle); err != nil {
		return err
	}
	if h.ErrorStyle != styleMCP && h.ErrorStyle != styleHTTP {
		return d.WrapErr(errStyle(h.ErrorStyle))
	}
	return nil
}

func (h *Handler) parseRateLimit(d *caddyfile.Dispenser) error {
	h.RateLimit = strings.Join(d.RemainingArgs(), " ")
	if _, err := keys.ParseRate(h.RateLimit); err != nil {
		return d.Errf("rate_limit: %v", err)
	}
	return nil
}
