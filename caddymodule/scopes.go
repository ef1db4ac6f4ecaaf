package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

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
