package keys

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Scope is a scope that the operator declares.
type Scope struct {
	Name        string
	Description string   // an explanation for people; may be empty
	Includes    []string // names of other scopes that this scope grants, together with all scopes that those include
}

// MaxScopes bounds the scopes of a catalogue.
const MaxScopes = 256

// Catalogue holds the scopes that an operator has declared. It records which other
// scopes each scope includes. It is immutable and safe for concurrent use. The nil
// Catalogue declares no scopes.
type Catalogue struct {
	scopes   []Scope
	grants   map[string]map[string]bool // for each scope, the scope itself and all scopes that it includes
	defaults []string
}

var scopeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)

// ErrScopeForm describes the form of a scope's name.
var ErrScopeForm = errors.New("want 1 to 64 of a-z, 0-9, '_', '.', ':', '-', beginning with a letter or a digit")

// ScopeError is an error about one of the scopes of a catalogue.
type ScopeError struct {
	Scope string // the name of the scope that is declared wrongly, or "" if the default scopes are wrong
	Err   error
}

// Error names the scope and the fault.
func (e *ScopeError) Error() string {
	if e.Scope == "" {
		return fmt.Sprintf("the default scopes: %v", e.Err)
	}
	return fmt.Sprintf("scope %q: %v", e.Scope, e.Err)
}

// Unwrap returns the fault.
func (e *ScopeError) Unwrap() error { return e.Err }

// NewCatalogue returns a catalogue of the scopes. The defaults are the scopes of a
// personal key that is created without naming any scopes. The error is a *ScopeError if
// the name of a scope is malformed, declared twice or implied by a kind of key. It is
// also a *ScopeError if a scope includes itself, directly or through others, or if an
// included scope or a default is not declared. More than MaxScopes scopes are an error,
// too.
func NewCatalogue(scopes []Scope, defaults []string) (*Catalogue, error) {
	if len(scopes) > MaxScopes {
		return nil, fmt.Errorf("there are %d scopes: a catalogue has at most %d", len(scopes), MaxScopes)
	}
	c := &Catalogue{scopes: slices.Clone(scopes), defaults: slices.Clone(defaults), grants: make(map[string]map[string]bool, len(scopes))}
	for _, s := range scopes {
		switch {
		case impliedByAnyKind(s.Name):
			return nil, &ScopeError{s.Name, errors.New("it comes with a kind of key and is not to be declared")}
		case !scopeForm.MatchString(s.Name):
			return nil, &ScopeError{s.Name, ErrScopeForm}
		case c.grants[s.Name] != nil:
			return nil, &ScopeError{s.Name, errors.New("it is declared twice")}
		}
		c.grants[s.Name] = map[string]bool{s.Name: true}
	}
	includes := make(map[string][]string, len(scopes))
	for _, s := range scopes {
		if err := c.Check(s.Includes, false); err != nil {
			return nil, &ScopeError{s.Name, err}
		}
		includes[s.Name] = s.Includes
	}
	for _, s := range scopes {
		if err := collectIncludes(s.Name, includes, nil, c.grants[s.Name]); err != nil {
			return nil, &ScopeError{s.Name, err}
		}
	}
	if err := c.Check(defaults, false); err != nil {
		return nil, &ScopeError{"", err}
	}
	return c, nil
}

// collectIncludes adds every scope that the given scope includes to a set, its last
// argument. path has the scopes that led to the given scope; it serves to detect
// cycles.
func collectIncludes(scope string, includes map[string][]string, path []string, into map[string]bool) error {
	if slices.Contains(path, scope) {
		return fmt.Errorf("it comes around to itself: %s", strings.Join(append(path, scope), " includes "))
	}
	path = append(slices.Clone(path), scope)
	for _, included := range includes[scope] {
		if into[included] && !slices.Contains(path, included) {
			continue // this scope was already collected on another path
		}
		if err := collectIncludes(included, includes, path, into); err != nil {
			return err
		}
		into[included] = true
	}
	return nil
}

// Names returns the names of the declared scopes, in the order of declaration.
func (c *Catalogue) Names() []string {
	if c == nil {
		return nil
	}
	names := make([]string, len(c.scopes))
	for i := range c.scopes {
		names[i] = c.scopes[i].Name
	}
	return names
}

// Description returns the explanation of a declared scope for people, "" for none.
func (c *Catalogue) Description(scope string) string {
	if c == nil {
		return ""
	}
	for i := range c.scopes {
		if c.scopes[i].Name == scope {
			return c.scopes[i].Description
		}
	}
	return ""
}

// Default returns the scopes of a personal key that is created without naming any
// scopes.
func (c *Catalogue) Default() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.defaults)
}

// Check returns an error if one of the given scopes is not declared. The error lists
// the declared scopes. If connect is set, ScopeConnect is allowed, too.
func (c *Catalogue) Check(scopes []string, connect bool) error {
	for _, s := range scopes {
		switch {
		case connect && s == ScopeConnect, c != nil && c.grants[s] != nil:
		case c == nil || len(c.scopes) == 0:
			return fmt.Errorf("unknown scope %q: the config declares none; declare it in the global option farebox, in scopes", s)
		default:
			return fmt.Errorf("unknown scope %q; declared: %s", s, strings.Join(c.Names(), ", "))
		}
	}
	return nil
}

// Includes reports whether one of the held scopes includes the scope. A held scope
// that is no longer declared includes nothing. Includes does not allocate.
func (c *Catalogue) Includes(held []string, scope string) bool {
	if c == nil || impliedByAnyKind(scope) {
		return false
	}
	for _, s := range held {
		if c.grants[s][scope] {
			return true
		}
	}
	return false
}

// Expand returns the held scopes and the scopes that they include, without duplicates
// and in alphabetical order.
func (c *Catalogue) Expand(held []string) []string {
	all := slices.Clone(held)
	if c != nil {
		for _, s := range held {
			for name := range c.grants[s] {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
