package mcp

import "slices"

// List is the kind of items that a list method lists. The zero List is not valid.
type List uint8

const (
	// ListTools is the result of tools/list. An item is identified by its name.
	ListTools List = iota + 1
	// ListPrompts is the result of prompts/list. An item is identified by its name.
	ListPrompts
	// ListResources is the result of resources/list. An item is identified by its
	// uri.
	ListResources
	// ListResourceTemplates is the result of resources/templates/list. An item is
	// identified by its uriTemplate.
	ListResourceTemplates
	// ListTasks is the result of tasks/list. An item is identified by its taskId.
	ListTasks
)

// String returns "tools", "prompts", "resources", "resource_templates" or "tasks", or
// "List(n)" for an unknown value.
func (l List) String() string {
	return nameOf("List", []string{"", "tools", "prompts", "resources", "resource_templates", "tasks"}, uint8(l))
}

// ListOf returns the list in the result of a method, or false for other methods.
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
	itemName = iota + 1 // the member that identifies the item
	itemMeta
)

// listShape has the names in the result of a list method.
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
