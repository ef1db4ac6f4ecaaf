// Package items defines the names of the items of an MCP server, which are tools,
// prompts, resources and methods, and the patterns that match many of them. Price
// books and scope rules use these names.
package items

import (
	"fmt"
	"strings"
)

// Kind is the kind of an item. The zero Kind is Tool.
type Kind uint8

const (
	// Tool items are called by tools/call.
	Tool Kind = iota
	// Prompt items are fetched by prompts/get.
	Prompt
	// Resource items are read by resources/read, and named by URI.
	Resource
	// Method items are all other requests, named by method.
	Method

	kinds = iota
)

var (
	kindNames = [kinds]string{"tool", "prompt", "resource", "method"}
	// prefixes precede the names of items in charges and in the config. The name of
	// a tool has none there, unless it could be read as another item's.
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

// Item is the target of a request.
type Item struct {
	Kind Kind
	Name string // without a prefix
}

// String returns the name of the item in charges, unique among all items: for a tool
// its own name, or tool:NAME if that could be read as something else, and
// prompt:NAME, resource:URI or method:NAME for others. It allocates for all but
// plain names of tools.
func (i Item) String() string {
	if i.Kind >= kinds || i.Kind == Tool && !needsPrefix(i.Name) {
		return i.Name
	}
	return prefixes[i.Kind] + i.Name
}

// Parse is the inverse of Item.String; the name may also be a pattern. An empty name
// is an error, and so is a text that looks like a mistyped prefix or like a URI
// without one: a tool of such a name is written tool:NAME.
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

// prefixOf returns the kind that the prefix of the text stands for.
func prefixOf(text string) (Kind, bool) {
	for kind := Tool; kind < kinds; kind++ {
		if strings.HasPrefix(text, prefixes[kind]) {
			return kind, true
		}
	}
	return 0, false
}

// needsPrefix reports whether the name of a tool begins with a prefix, or with a text
// that was perhaps meant as one: a prefix in another case or in the plural, or the
// scheme of a URI.
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
