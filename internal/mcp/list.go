package mcp

import "slices"

// List is what a list method lists. The zero List is not valid.
type List uint8

const (
	// ListTools is the result of tools/list. An item goes by its name.
	ListTools List = iota + 1
	// ListPrompts is the result of prompts/list. An item goes by its name.
	ListPrompts
	// ListResources is the result of resources/list. An item goes by its uri.
	ListResources
	// ListResourceTemplates is the result of resources/templates/list. An item
	// goes by its uriTemplate.
	ListResourceTemplates
	// ListTasks is the result of tasks/list. An item goes by its taskId.
	ListTasks
)

// String returns "tools", "prompts", "resources", "resource_templates" or
// "tasks", or "List(n)" for a value that is none of them.
func (l List) String() string {
	return nameOf("List", []string{"", "tools", "prompts", "resources", "resource_templates", "tasks"}, uint8(l))
}

// ListOf returns what a method lists. false says that it is no list method.
func ListOf(method string) (List, bool) {
	m := lookupMethod(method)
	if m == nil || m.Lists == 0 {
		return 0, false
	}
	return m.Lists, true
}

// The names with a meaning in the result of a list method: those of every
// result, and these.
const (
	resultCacheScope = resultMeta + 1 + iota
	resultList
)

// The names with a meaning in an item of a list.
const (
	itemName = iota + 1 // the member that the item goes by
	itemMeta
)

// listShape is how the result of a list method is written.
type listShape struct {
	result names
	item   names
}

var listShapes = [...]listShape{
	ListTools:             newListShape("tools", "name"),
	ListPrompts:           newListShape("prompts", "name"),
	ListResources:         newListShape("resources", "uri"),
	ListResourceTemplates: newListShape("resourceTemplates", "uriTemplate"),
	ListTasks:             newListShape("tasks", "taskId"),
}

func newListShape(member, name string) listShape {
	return listShape{
		result: append(slices.Clone(resultNames), "cacheScope", member),
		item:   names{name, "_meta"},
	}
}
