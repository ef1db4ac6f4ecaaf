// Package items names what an MCP server offers: tools, prompts, resources and
// methods, and the patterns that stand for many of them. Price books and the
// rules of scopes are written in these names.
package items

import (
	"fmt"
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
	// prefixes begin the names of items in charges and in the config. A tool goes
	// by its own name there, unless that could be read as another item's.
	prefixes = [kinds]string{"tool:", "prompt:", "resource:", "method:"}
)

// String returns "tool", "prompt", "resource" or "method", or "Kind(n)" for a
// value that is none of them.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Item is one thing that a request asks for.
type Item struct {
	Kind Kind
	Name string // without a prefix
}

// String returns the name by which charges know the item: a tool's own, or
// tool:NAME if that could be read as something else, and prompt:NAME,
// resource:URI or method:NAME. No two items have the same. It allocates for all
// but plain names of tools.
func (i Item) String() string {
	if i.Kind >= kinds || i.Kind == Tool && !needsPrefix(i.Name) {
		return i.Name
	}
	return prefixes[i.Kind] + i.Name
}

// Parse is the inverse of Item.String; the name may be a pattern as well. What
// looks like a mistyped prefix, or like a URI without one, is an error: a tool
// of that name is written tool:NAME. So is an empty name.
func Parse(text string) (Item, error) {
	item := Item{Name: text}
	kind, ok := prefixOf(text)
	switch {
	case ok:
		item = Item{Kind: kind, Name: text[len(prefixes[kind]):]}
	case needsPrefix(text):
		return item, fmt.Errorf("%q: write prompt:NAME for a prompt, resource:URI for a resource, or tool:%s for a tool of that name", text, text)
	}
	if item.Name == "" {
		return item, fmt.Errorf("want the name of a %s, or a pattern", item.Kind)
	}
	return item, nil
}

// prefixOf returns the kind whose prefix the text begins with.
func prefixOf(text string) (Kind, bool) {
	for kind := Tool; kind < kinds; kind++ {
		if strings.HasPrefix(text, prefixes[kind]) {
			return kind, true
		}
	}
	return 0, false
}

// needsPrefix reports whether the name of a tool begins with something that is
// read as a prefix, or that was perhaps meant as one: in another case, in the
// plural, or the scheme of a URI.
func needsPrefix(name string) bool {
	before, after, colon := strings.Cut(name, ":")
	if !colon {
		return false
	}
	before = strings.TrimSuffix(strings.ToLower(before), "s")
	for _, known := range kindNames {
		if before == known {
			return true
		}
	}
	return strings.HasPrefix(after, "//")
}
