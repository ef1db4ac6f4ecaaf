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

// Item is one thing that a request asks for.
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

// Parse is the inverse of Item.String; the name may be a pattern as well.
// A prefix that is none of the known ones is an error, as is an empty name.
func Parse(text string) (Item, error) {
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
		return item, fmt.Errorf("want the name of a %s, or a pattern", item.Kind)
	}
	return item, nil
}
