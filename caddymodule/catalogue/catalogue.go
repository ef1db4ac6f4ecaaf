// Package catalogue reads the scopes that a config declares.
package catalogue

import (
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Scopes declares the scopes that keys may have beyond those of their kind.
type Scopes struct {
	// The scopes of a personal key if no scopes are given when the key is created.
	Default []string `json:"default,omitempty"`

	// The declared scopes.
	Declared []Scope `json:"declared,omitempty"`
}

// Scope is a scope that keys may have.
type Scope struct {
	// The name of the scope: letters, digits, `_`, `.`, `:` and `-`.
	Name string `json:"name"`

	// The meaning of the scope, for people.
	Description string `json:"description,omitempty"`

	// The scopes that this scope includes. A key with this scope also has the included
	// scopes, and all scopes that those include in turn.
	Includes []string `json:"includes,omitempty"`
}

// Compile returns the catalogue of the declared scopes, or nil for a nil Scopes.
func (s *Scopes) Compile() (*keys.Catalogue, error) {
	if s == nil {
		return nil, nil
	}
	declared := make([]keys.Scope, len(s.Declared))
	for i, scope := range s.Declared {
		declared[i] = keys.Scope(scope)
	}
	return keys.NewCatalogue(declared, s.Default)
}

// Parse returns a function that reads the block of the option "scopes" and stores it in
// *into.
func Parse(into **Scopes) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		*into = new(Scopes)
		return (*into).parse(d)
	}
}

// parse reads the block of the option "scopes". A line may name a scope that a later
// line declares, so the catalogue is checked only as a whole. An error still names the
// wrong scope's line.
func (s *Scopes) parse(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("scopes takes a block and no arguments, not %q", d.Val())
	}
	at := make(map[string]caddyfile.Dispenser) // maps each scope to the line that declares it; maps "" to the line with the word "default"
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() == "default" {
			if _, twice := at[""]; twice {
				return d.Err("scopes: default is given twice")
			}
			at[""] = *d
			if err := grammar.Args(d, &s.Default); err != nil {
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
		s.Declared = append(s.Declared, scope)
	}
	_, err := s.Compile()
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
