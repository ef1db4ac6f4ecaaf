package items

import (
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
)

// Table maps items to values, by rules whose patterns name one item or many.
// The zero Table is empty. Once it is filled it may be read by many goroutines
// at once; finding an exact name does not allocate.
type Table[T any] struct {
	shelves [kinds]shelf[T]
}

// shelf has the rules of one kind of items.
type shelf[T any] struct {
	exact map[string]T
	globs []glob[T] // in the order of the rules

	folds   map[string]string // the exact names by what they fold to
	folding bool              // a rule's pattern is not what it folds to
}

// glob is a rule for many items.
type glob[T any] struct {
	pattern string
	uri     []string // of a resource's pattern: what stands between the wildcards
	folded  []piece  // of all other patterns
	value   T
}

// Add puts a rule into the table. In the patterns of tools and prompts, '*'
// stands for any run of characters, '?' for one, and '[a-z]' for a class; '/' is
// a character like any other, so that "*" is all of them. In those of resources, '*' and whatever stands in braces stand for any
// run of characters, '/' included, and all else for itself. Methods have no
// patterns. What cannot be read, what stands there already, and what can never
// match is an error.
func (t *Table[T]) Add(item Item, value T) error {
	s := &t.shelves[item.Kind]
	g := glob[T]{pattern: item.Name, value: value}
	many, fixed, err := g.compile(item)
	if err != nil {
		return fmt.Errorf("the pattern %q cannot be read: %w", item, err)
	}
	if _, there := s.exact[item.Name]; there || s.hasGlob(item.Name) {
		return fmt.Errorf("%s %q is named twice", item.Kind, item.Name)
	}
	if err := CheckName(Item{item.Kind, fixed}); err != nil && (fixed != "" || !many) {
		return fmt.Errorf("%s %q can never match: %w", item.Kind, item.Name, err)
	}
	if many {
		if before := s.shadow(&g, item.Kind); before != "" {
			return fmt.Errorf("%s %q can never match: %q, which stands before it, takes all that it would", item.Kind, item.Name, before)
		}
		s.folding = s.folding || strings.Contains(item.Name, "[") || !isFolded(item.Name)
		s.globs = append(s.globs, g)
		return nil
	}
	if s.exact == nil {
		s.exact, s.folds = make(map[string]T), make(map[string]string)
	}
	s.folding = s.folding || !isFolded(item.Name)
	s.exact[item.Name] = value
	s.folds[Fold(item.Name)] = item.Name
	return nil
}

// compile reads the item's pattern. It reports whether that may name many items,
// and returns the text that all of them have.
func (g *glob[T]) compile(item Item) (many bool, fixed string, err error) {
	switch item.Kind {
	case Method:
		return false, item.Name, nil
	case Resource:
		g.uri, err = splitURIPattern(item.Name)
		return len(g.uri) > 1, strings.Join(g.uri, ""), err
	}
	if !strings.ContainsAny(item.Name, `*?[\`) {
		return false, item.Name, nil
	}
	if _, err = path.Match(item.Name, ""); err != nil {
		return true, "", err
	}
	pieces := cutGlob(item.Name)
	g.folded = fold(pieces)
	return true, literals(pieces), nil
}

// shadow returns the pattern of a rule that takes all items which the new one
// would match, "" if there is none.
func (s *shelf[T]) shadow(new *glob[T], kind Kind) string {
	inner := new.steps(kind)
	for i := range s.globs {
		if covers(s.globs[i].steps(kind), inner) {
			return s.globs[i].pattern
		}
	}
	return ""
}

func (s *shelf[T]) hasGlob(pattern string) bool {
	for i := range s.globs {
		if s.globs[i].pattern == pattern {
			return true
		}
	}
	return false
}

// Confusable reports whether a server whose lookup is lax could take the name of
// a tool or a prompt for one that another rule is for, and returns that rule's
// pattern: no rule has this very name, and a name that folds to the same (see
// Fold) may find another rule than it does.
func (t *Table[T]) Confusable(item Item) (pattern string, confusable bool) {
	s := &t.shelves[item.Kind]
	if item.Kind != Tool && item.Kind != Prompt || !s.folding && isFolded(item.Name) {
		return "", false
	}
	if _, ok := s.exact[item.Name]; ok {
		return "", false
	}
	folded := Fold(item.Name)
	if name, ok := s.folds[folded]; ok {
		return name, true
	}
	for i := range s.globs {
		g := &s.globs[i]
		written, loose := g.matches(item), foldedMatch(g.folded, folded)
		switch {
		case written && loose:
			return "", false
		case written || loose: // "e*" and an accent that a server joins to the e: then it is no e
			return g.pattern, true
		}
	}
	return "", false
}

// Find returns the value of the rule for the item: of the one with exactly its
// name, whatever the order, or else of the first whose pattern matches.
func (t *Table[T]) Find(item Item) (value T, ok bool) {
	s := &t.shelves[item.Kind]
	if value, ok = s.exact[item.Name]; ok {
		return value, true
	}
	for i := range s.globs {
		if s.globs[i].matches(item) {
			return s.globs[i].value, true
		}
	}
	return value, false
}

// FindTemplate returns the value of the rule for every resource of a template
// (RFC 6570). false says that this cannot be told: no rule has exactly the
// template for its pattern.
func (t *Table[T]) FindTemplate(template string) (value T, ok bool) {
	s := &t.shelves[Resource]
	if value, ok = s.exact[template]; ok {
		return value, true
	}
	for i := range s.globs {
		if s.globs[i].pattern == template {
			return s.globs[i].value, true
		}
	}
	return value, false
}

// HasExactly reports whether a rule has the item's very name.
func (t *Table[T]) HasExactly(item Item) bool {
	_, ok := t.shelves[item.Kind].exact[item.Name]
	return ok
}

// Values yields the values of all rules, in no order.
func (t *Table[T]) Values() iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := range t.shelves {
			for _, value := range t.shelves[i].exact {
				if !yield(value) {
					return
				}
			}
			for j := range t.shelves[i].globs {
				if !yield(t.shelves[i].globs[j].value) {
					return
				}
			}
		}
	}
}

// Len counts the rules for items of a kind.
func (t *Table[T]) Len(kind Kind) int {
	return len(t.shelves[kind].exact) + len(t.shelves[kind].globs)
}

func (g *glob[T]) matches(item Item) bool {
	if item.Kind == Resource {
		return matchesPieces(g.uri, item.Name)
	}
	return matchGlob(g.pattern, item.Name)
}

// splitURIPattern returns what stands between the wildcards of a pattern for
// URIs: '*' and, so that a template of RFC 6570 is a pattern for all that may
// come of it, whatever stands in braces. Both stand for any run of characters:
// URIs have '?', '[' and '/' of their own.
func splitURIPattern(pattern string) ([]string, error) {
	var pieces []string
	for rest := pattern; ; {
		i := strings.IndexAny(rest, "*{}")
		if i < 0 {
			return append(pieces, rest), nil
		}
		pieces = append(pieces, rest[:i])
		end := i
		switch rest[i] {
		case '{':
			size := strings.IndexAny(rest[i+1:], "{}")
			if size < 0 || rest[i+1+size] != '}' {
				return nil, errors.New("a brace is not closed")
			}
			end = i + 1 + size
		case '}':
			return nil, errors.New("a brace is not opened")
		}
		rest = rest[end+1:]
	}
}

// matchesPieces reports whether the text is the pieces with anything between
// them. It takes the first place of each piece, which is right since the last
// one is fixed; so the time is bounded by the text's length times that of the
// pieces.
func matchesPieces(pieces []string, text string) bool {
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, after, ok := strings.Cut(text, piece)
		if !ok {
			return false
		}
		text = after
	}
	return true
}
