package mcp

// Method describes a method of the protocol. The table methods is the one place to
// add a method; a request that clients send freely needs no more than a name and its
// eras.
type Method struct {
	Name string // as it is written

	Session   bool // clients send it in EraSession
	Stateless bool // clients send it in EraStateless
	Notifies  bool // it is a notification; otherwise a request

	Names  Param // the member of params that names its target
	About  Subject
	Item   bool // its target, which it must name, is priced and permitted item by item
	Lists  List // the list in its result; 0 for none
	MayAsk bool // its result may be a request for input; see MayAsk
	Upkeep bool // it asks for no work of the server's own; see IsUpkeep

	Streams bool // its response is a stream that stays open
	Rules   bool // an operator may put a rule on it; see CheckMethodRule
}

// Param is a member of a request's params that names a target.
type Param uint8

const (
	// ParamNone is for a method without a target.
	ParamNone Param = iota
	// ParamName is params.name.
	ParamName
	// ParamURI is params.uri.
	ParamURI
	// ParamTaskID is params.taskId.
	ParamTaskID
)

// Subject is the kind of target that a method is about.
type Subject uint8

const (
	// AboutNothing is for a method without a target, or with one that it does not name
	// by a Param.
	AboutNothing Subject = iota
	// AboutTool is for a tool.
	AboutTool
	// AboutPrompt is for a prompt.
	AboutPrompt
	// AboutResource is for a resource.
	AboutResource
	// AboutTask is for one task.
	AboutTask
)

// The methods that this package treats in a way of their own.
const (
	methodToolsCall     = "tools/call"
	methodPromptsGet    = "prompts/get"
	methodResourcesRead = "resources/read"
	methodInitialize    = "initialize"
)

// The methods about tasks. MCP 2025-11-25, Tasks, has all but the update; SEP-2663,
// an extension of 2026-07-28, has all but the result and the list.
const (
	MethodTaskGet    = "tasks/get"
	MethodTaskResult = "tasks/result"
	MethodTaskList   = "tasks/list"
	MethodTaskCancel = "tasks/cancel"
	MethodTaskUpdate = "tasks/update"
)

// MethodTaskStatus is the notification with which the receiver of a request reports
// the status of its task (MCP 2025-11-25, Tasks). A client sends it about a task of
// its own.
const MethodTaskStatus = "notifications/tasks/status"

// MethodResourceUpdated is the notification with which a server reports that a
// resource has changed (MCP 2025-11-25, Resources; 2026-07-28, subscriptions).
const MethodResourceUpdated = "notifications/resources/updated"

// methods has every method that clients send.
var methods = []Method{
	{Name: methodToolsCall, Session: true, Stateless: true, Names: ParamName, About: AboutTool, Item: true, MayAsk: true},
	{Name: methodPromptsGet, Session: true, Stateless: true, Names: ParamName, About: AboutPrompt, Item: true, MayAsk: true},
	{Name: methodResourcesRead, Session: true, Stateless: true, Names: ParamURI, About: AboutResource, Item: true, MayAsk: true},

	{Name: "tools/list", Session: true, Stateless: true, Lists: ListTools, Upkeep: true},
	{Name: "prompts/list", Session: true, Stateless: true, Lists: ListPrompts, Upkeep: true},
	{Name: "resources/list", Session: true, Stateless: true, Lists: ListResources, Upkeep: true},
	{Name: "resources/templates/list", Session: true, Stateless: true, Lists: ListResourceTemplates, Upkeep: true},

	{Name: methodInitialize, Session: true, Upkeep: true},
	{Name: "ping", Session: true, Upkeep: true},
	{Name: "server/discover", Stateless: true, Upkeep: true},
	{Name: "subscriptions/listen", Stateless: true, Streams: true},
	{Name: "logging/setLevel", Session: true, Rules: true},
	{Name: "completion/complete", Session: true, Stateless: true, Rules: true},
	{Name: "resources/subscribe", Session: true, Names: ParamURI, About: AboutResource, Rules: true},
	{Name: "resources/unsubscribe", Session: true, Names: ParamURI, About: AboutResource, Rules: true},

	{Name: MethodTaskGet, Session: true, Stateless: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskResult, Session: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskList, Session: true, Lists: ListTasks},
	{Name: MethodTaskCancel, Session: true, Stateless: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskUpdate, Stateless: true, Names: ParamTaskID, About: AboutTask},

	// The stateless transport has no client notification: closing the stream cancels.
	// But clients of two transports send this one.
	{Name: "notifications/cancelled", Session: true, Stateless: true, Notifies: true, Upkeep: true},
	{Name: "notifications/initialized", Session: true, Notifies: true, Upkeep: true},
	{Name: "notifications/progress", Session: true, Notifies: true, Upkeep: true},
	{Name: "notifications/roots/list_changed", Session: true, Notifies: true, Upkeep: true},
}

// methodsByLength indexes methods by the length of the name. Few names have the same
// length, so that a lookup costs about one comparison, which is less than a map's hash.
var methodsByLength = func() (index [maxMethodName + 1][]*Method) {
	for i := range methods {
		n := len(methods[i].Name)
		index[n] = append(index[n], &methods[i])
	}
	return index
}()

// LookupMethod returns the method of that name, which is compared exactly. It returns
// false for a method that clients do not send in any era.
func LookupMethod(name string) (Method, bool) {
	if m := lookupMethod(name); m != nil {
		return *m, true
	}
	return Method{}, false
}

// lookupMethod returns the entry in the table, or nil.
func lookupMethod[T string | []byte](name T) *Method {
	if len(name) > maxMethodName {
		return nil
	}
	for _, m := range methodsByLength[len(name)] {
		if m.Name == string(name) {
			return m
		}
	}
	return nil
}

// Target returns the name of the message's target, "" for a method without one or a
// message that does not name it.
func (m *Method) Target(msg *Message) string {
	switch m.Names {
	case ParamName:
		return msg.Name
	case ParamURI:
		return msg.URI
	case ParamTaskID:
		return msg.TaskID
	}
	return ""
}
