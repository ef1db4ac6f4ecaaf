package mcp

import "slices"

// List identifies a list method by the kind of items it lists. The zero List is not
// valid.
type List uint8

const (
	// ListTools is the list in the result of tools/list. An item is identified by its
	// member "name".
	ListTools List = iota + 1
	// ListPrompts is the list in the result of prompts/list. An item is identified by
	// its member "name".
	ListPrompts
	// ListResources is the list in the result of resources/list. An item is identified
	// by its member "uri".
	ListResources
	// ListResourceTemplates is the list in the result of resources/templates/list. An
	// item is identified by its member "uriTemplate".
	ListResourceTemplates
	// ListTasks is the list in the result of tasks/list. An item is identified by its
	// member "taskId".
	ListTasks
)

// String returns "tools", "prompts", "resources", "resource_templates" or "tasks", or
// "List(n)" for an unknown value.
func (l List) String() string {
	return nameOf("List", []string{"", "tools", "prompts", "resources", "resource_templates", "tasks"}, uint8(l))
}

// ListOf returns the list that a list method returns. It returns false for any other
// method.
func ListOf(method string) (List, bool) {
	m := lookupMethod(method)
	if m == nil || m.Lists == 0 {
		return 0, false
	}
	return m.Lists, true
}

// The ordinals of the names that are reserved only in the result of a list method. They
// follow resultMeta, the last ordinal of the names that are reserved in every result.
const (
	resultCacheScope = resultMeta + 1 + iota
	resultList
)

// The ordinals of the reserved names in an item of a list.
const (
	itemName = iota + 1 // the member that identifies the item, such as name or uri
	itemMeta
)

// listShape holds the reserved names for one list method.
type listShape struct {
	result names // reserved names in the result
	item   names // reserved names in each item of the list
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
