package items

import (
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
)

// Table maps items to values by rules. A rule has a name or a pattern for several
// items. The zero Table is empty. A Table is safe for concurrent reads after all rules
// have been added. Find allocates no memory for a name that has an exact rule.
type Table[T any] struct {
	shelves [kinds]shelf[T]
}

// shelf holds the rules for one kind of item.
type shelf[T any] struct {
	exact map[string]T
	globs []glob[T] // in the order in which they were added

	folds   map[string]string // maps the folded form of each exact name to that name
	folding bool              // some name or pattern may differ from its folded form
}

// glob is a rule with a pattern.
type glob[T any] struct {
	pattern string
	uri     []string // for resources: the literals between the wildcards
	folded  []piece  // for tools and prompts: the folded pattern
	path    []step   // the elements of the pattern
	value   T
}

// Add adds a rule to the table. In patterns for tools and prompts, '*' matches any run of
// characters, '?' matches one character, and '[a-z]' is a class of characters. '/' is not
// special there, so "*" matches every name. In patterns for resources, '*' and anything
// in braces match any run of characters, including '/', and all other characters match
// themselves. Methods have no patterns. Add returns an error if the pattern is malformed,
// repeated, or can never match.
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
		g.path = g.steps(item.Kind)
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

// compile parses the item's name or pattern. If many is true, the text is a pattern,
// which several names can match. The string fixed is all the literal text in the name
// or pattern, which every matching name contains.
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

// shadow looks for an earlier rule that matches all items that the new rule matches. It
// returns the pattern of that rule, or "" if it finds no such rule.
func (s *shelf[T]) shadow(new *glob[T], kind Kind) string {
	example, ok := exampleOf(new.path)
	for i := range s.globs {
		before := &s.globs[i]
		// An earlier pattern that does not match the new pattern's example cannot cover
		// the new one. This quick test excludes most patterns.
		if ok && !before.matches(Item{kind, example}) {
			continue
		}
		if covers(before.path, new.path) {
			return before.pattern
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

// Confusable reports whether a server that ignores differences such as case could
// confuse the name of a tool or prompt with another name, for which another rule
// applies. It returns the pattern of the other rule. A name is confusable if no rule
// has exactly this name, and Find finds another rule for some name with the same folded
// form; see Fold.
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
		// Exactly one of the two is true: the pattern matches the name, or the folded
		// pattern matches the folded name. For example, "e*" matches the letter e
		// followed by a combining accent. Folding composes the two to one letter, so
		// the folded pattern does not match.
		case written || loose:
			return g.pattern, true
		}
	}
	return "", false
}

// Find returns the value of the rule that applies to the item. A rule with exactly the
// item's name comes before all patterns. If there is no such rule, Find uses the first
// rule with a pattern that matches.
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

// FindTemplate returns the value of the rule that applies to all resources of a URI
// template (RFC 6570). It finds only a rule that has exactly the template as its
// pattern. Without such a rule it returns false, because different resources of the
// template may have different rules.
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

// HasExactly reports whether the table has a rule with exactly the item's name. Rules
// with patterns do not count.
func (t *Table[T]) HasExactly(item Item) bool {
	_, ok := t.shelves[item.Kind].exact[item.Name]
	return ok
}

// Values yields the values of all rules, in no particular order.
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

// Len returns the number of rules for items of the given kind.
func (t *Table[T]) Len(kind Kind) int {
	return len(t.shelves[kind].exact) + len(t.shelves[kind].globs)
}

func (g *glob[T]) matches(item Item) bool {
	if item.Kind == Resource {
		return matchesPieces(g.uri, item.Name)
	}
	return matchGlob(g.pattern, item.Name)
}

// splitURIPattern returns the literals between the wildcards of a URI pattern. A wildcard
// is '*' or anything in braces, so a template by RFC 6570 is a pattern for all its
// expansions. Every wildcard matches any run of characters. '?', '[' and '/' are
// literals, because they have a meaning in URIs.
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

// matchesPieces reports whether the text consists of the pieces in this order, with any
// text between them. It tries only the first occurrence of each piece, except that the
// last piece must be at the end of the text. That is sufficient, and it bounds the time
// by the product of the length of the text and the length of the pieces.
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
