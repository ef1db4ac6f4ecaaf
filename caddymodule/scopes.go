package caddymodule

import (
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Scopes declares what keys may be given, beyond what their kind brings.
type Scopes struct {
	// The scopes that a personal key gets for which none is named.
	Default []string `json:"default,omitempty"`

	// The scopes.
	Declared []Scope `json:"declared,omitempty"`
}

// Scope is one scope.
type Scope struct {
	// Its name: letters, digits, `_`, `.`, `:` and `-`.
	Name string `json:"name"`

	// What it allows, for people.
	Description string `json:"description,omitempty"`

	// Scopes that come with it, and what they include.
	Includes []string `json:"includes,omitempty"`
}

// catalogue compiles the scopes; nil declares none.
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

// parseScopes reads the catalogue. Scopes may be named before they are
// declared, so that it is judged as a whole; an error is told at the line that
// it is about.
func (a *App) parseScopes(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("scopes takes a block and no arguments, not %q", d.Val())
	}
	a.Scopes = new(Scopes)
	at := make(map[string]caddyfile.Dispenser) // where each scope is declared, and the default as ""
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() == "default" {
			if _, twice := at[""]; twice {
				return d.Err("scopes: default is given twice")
			}
			at[""] = *d
			if err := someArgs(d, &a.Scopes.Default); err != nil {
				return err
			}
			continue
		}
		scope := Scope{Name: d.Val()}
		here := *d
		if err := scope.parseRest(d); err != nil {
			return err
		}
		at[scope.Name] = here // of one that stands twice, the second place is wrong
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

// parseRest reads what follows a scope's name on its line.
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
