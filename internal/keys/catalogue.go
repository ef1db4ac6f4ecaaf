package keys

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Scope is a scope as the operator declares it.
type Scope struct {
	Name        string
	Description string   // for people; may be empty
	Includes    []string // names of scopes that come with it, and what they include
}

// MaxScopes bounds how many scopes a catalogue declares.
const MaxScopes = 256

// Catalogue has the scopes that an operator has declared, and says which come
// with which. It never changes after it was made and may be used by many
// goroutines at once. The nil Catalogue declares none.
type Catalogue struct {
	scopes   []Scope
	grants   map[string]map[string]bool // of each scope: itself, and all that comes with it
	defaults []string
}

var scopeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)

// ErrScopeForm says what the name of a scope looks like.
var ErrScopeForm = errors.New("want 1 to 64 of a-z, 0-9, '_', '.', ':', '-', beginning with a letter or a digit")

// ScopeError is an error about one of the scopes of a catalogue.
type ScopeError struct {
	Scope string // the one whose declaration is wrong, "" for the defaults
	Err   error
}

// Error tells the scope and what is wrong with it.
func (e *ScopeError) Error() string {
	if e.Scope == "" {
		return fmt.Sprintf("the default scopes: %v", e.Err)
	}
	return fmt.Sprintf("scope %q: %v", e.Scope, e.Err)
}

// Unwrap returns what is wrong.
func (e *ScopeError) Unwrap() error { return e.Err }

// NewCatalogue makes a catalogue of the scopes, and of those that a personal
// key gets for which none is named. A name that is not allowed or stands twice,
// one that is not declared, and a scope that includes itself, be it by way of
// others, is a *ScopeError.
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
		if err := follow(s.Name, includes, nil, c.grants[s.Name]); err != nil {
			return nil, &ScopeError{s.Name, err}
		}
	}
	if err := c.Check(defaults, false); err != nil {
		return nil, &ScopeError{"", err}
	}
	return c, nil
}

// follow notes what comes with the scope, which was come to by the path.
func follow(scope string, includes map[string][]string, path []string, into map[string]bool) error {
	if slices.Contains(path, scope) {
		return fmt.Errorf("it comes around to itself: %s", strings.Join(append(path, scope), " includes "))
	}
	path = append(slices.Clone(path), scope)
	for _, included := range includes[scope] {
		if into[included] && !slices.Contains(path, included) {
			continue // was followed by another way
		}
		if err := follow(included, includes, path, into); err != nil {
			return err
		}
		into[included] = true
	}
	return nil
}

// Names returns the names of the declared scopes, as they were declared.
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

// Default returns the scopes that a personal key gets for which none is named.
func (c *Catalogue) Default() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.defaults)
}

// Check returns an error, with what is allowed, if one of the scopes is not
// declared. With connect, ScopeConnect is allowed, too.
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

// Includes reports whether one of the scopes that a caller holds by name includes
// the scope. A scope that is no longer declared includes nothing. Includes does
// not allocate.
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

// Expand returns the scopes held by name and those they include, without
// duplicates and in alphabetical order.
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
