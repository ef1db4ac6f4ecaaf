package pricing

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Kind says what kind of thing a server offers. The zero Kind is Tool.
type Kind uint8

const (
	// Tool is what tools/call calls.
	Tool Kind = iota
	// Prompt is what prompts/get gets.
	Prompt
	// Resource is what resources/read reads; it goes by its URI.
	Resource
	// Method is any other request; it goes by the name of its method.
	Method
	kinds = iota
)

var (
	kindNames = [kinds]string{"tool", "prompt", "resource", "method"}
	// prefixes begin the names of what is no tool. A tool's name has no colon,
	// so that none is taken for another.
	prefixes = [kinds]string{Prompt: "prompt:", Resource: "resource:", Method: "method:"}
)

// String returns "tool", "prompt", "resource" or "method", or "Kind(n)" for a
// value that is none of them.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Item is one thing that a request asks for and that may have a price.
type Item struct {
	Kind Kind
	Name string // without a prefix
}

// String returns the name by which charges know the item: a tool's own, and
// prompt:NAME, resource:URI or method:NAME. It allocates for all but tools.
func (i Item) String() string {
	if i.Kind == Tool || i.Kind >= kinds {
		return i.Name
	}
	return prefixes[i.Kind] + i.Name
}

// ParseItem is the inverse of Item.String; the name may be a pattern as well.
// A prefix that is none of the known ones is an error, as is an empty name.
func ParseItem(text string) (Item, error) {
	item := Item{Name: text}
	if strings.Contains(text, ":") {
		for kind := Prompt; kind < kinds; kind++ {
			if name, ok := strings.CutPrefix(text, prefixes[kind]); ok {
				item = Item{Kind: kind, Name: name}
			}
		}
		if item.Kind == Tool {
			return item, fmt.Errorf("%q: a tool's name has no colon; write prompt:NAME for a prompt, resource:URI for a resource", text)
		}
	}
	if item.Name == "" {
		return item, fmt.Errorf("a price needs the name of a %s, or a pattern", item.Kind)
	}
	return item, nil
}

// shelf has the entries of one kind.
type shelf struct {
	exact map[string]entry
	globs []entry // in the order of the rules
}

// find returns the entry that prices the name: the exact one, or the first glob
// that matches.
func (s *shelf) find(name string) (entry, bool) {
	if e, ok := s.exact[name]; ok {
		return e, true
	}
	for _, e := range s.globs {
		if e.matches(name) {
			return e, true
		}
	}
	return entry{}, false
}

// add puts an entry on the shelf.
func (s *shelf) add(e entry) error {
	glob := false
	switch e.item.Kind {
	case Method:
	case Resource:
		var err error
		if e.pieces, err = splitURIPattern(e.item.Name); err != nil {
			return fmt.Errorf("pattern %q of a price cannot be read: %w", e.quote.Entry, err)
		}
		glob = len(e.pieces) > 1
	default:
		if glob = strings.ContainsAny(e.item.Name, `*?[\`); !glob {
			break
		}
		if _, err := path.Match(e.item.Name, ""); err != nil {
			return fmt.Errorf("pattern %q of a price cannot be read: %w", e.quote.Entry, err)
		}
	}
	if glob {
		s.globs = append(s.globs, e)
		return nil
	}
	if s.exact == nil {
		s.exact = make(map[string]entry)
	}
	s.exact[e.item.Name] = e
	return nil
}

// matches reports whether the entry, which is a glob, names the item.
func (e *entry) matches(name string) bool {
	if e.item.Kind == Resource {
		return matchesPieces(e.pieces, name)
	}
	ok, _ := path.Match(e.item.Name, name) // add has checked the pattern
	return ok
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
