// Package items defines the names of an MCP server's items, and the patterns that match
// several items. An item is a tool, a prompt, a resource or a method. Price books and
// scope rules use these names and patterns.
package items

import (
	"fmt"
	"strings"
)

// Kind is the kind of an item. The zero Kind is Tool.
type Kind uint8

const (
	// Tool is the kind of items that are called by the method tools/call.
	Tool Kind = iota
	// Prompt is the kind of items that are fetched by the method prompts/get.
	Prompt
	// Resource is the kind of items that are read by the method resources/read. The
	// name of such an item is its URI.
	Resource
	// Method is the kind of all other requests. The name of such an item is the
	// request's method.
	Method

	kinds = iota
)

var (
	kindNames = [kinds]string{"tool", "prompt", "resource", "method"}
	// prefixes precede the names of items in charges and in the config. The name of a
	// tool has a prefix only if it could otherwise be taken for another item's name.
	prefixes = [kinds]string{"tool:", "prompt:", "resource:", "method:"}
)

// String returns "tool", "prompt", "resource" or "method", or "Kind(n)" for an
// invalid value.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Item identifies the item of a server that a request is for.
type Item struct {
	Kind Kind
	Name string // without a prefix
}

// String returns the name of the item in charges, which is unique among all items. For
// a tool it is the tool's name, or tool:NAME if the name alone could be taken for
// another item's. For other items it is prompt:NAME, resource:URI or method:NAME. String
// allocates, except for a tool without a prefix.
func (i Item) String() string {
	if i.Kind >= kinds || i.Kind == Tool && !needsPrefix(i.Name) {
		return i.Name
	}
	return prefixes[i.Kind] + i.Name
}

// Parse parses a text that Item.String returns. The name in the text may also be a
// pattern. An empty name is an error. A text without a prefix is an error, too, if it
// looks like a URI or seems to begin with a mistyped prefix. A tool with such a name is
// written tool:NAME.
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

// prefixOf returns the kind of item for which the text has the prefix. It returns false
// if the text has no prefix.
func prefixOf(text string) (Kind, bool) {
	for kind := Tool; kind < kinds; kind++ {
		if strings.HasPrefix(text, prefixes[kind]) {
			return kind, true
		}
	}
	return 0, false
}

// needsPrefix reports whether the name of a tool begins with a prefix, or with a text
// that may be a mistake for one: a prefix in another case or in the plural, or a URI's
// scheme.
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
