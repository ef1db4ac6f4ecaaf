package mcp

// Method describes a method of the protocol. To add a method, add an entry to methods.
// A request that needs no special treatment needs only a name and its eras.
type Method struct {
	Name string // exact name in messages

	Session   bool // clients send the method in EraSession
	Stateless bool // clients send the method in EraStateless
	Notifies  bool // a notification; otherwise a request

	Names  Param   // the member of params that names the target
	About  Subject // the kind of the target
	Item   bool    // params must name the target, which has its own price and permissions
	Lists  List    // the list in the result; 0 if the method lists nothing
	MayAsk bool    // the result may be a request for input; see MayAsk
	Upkeep bool    // does not use the server's items; see IsUpkeep

	Streams bool // the response is a stream that stays open
	Rules   bool // an operator may put a rule on the method; see CheckMethodRule
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
	// AboutNothing is for a method without a target, or with a target that no Param
	// names.
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

// Methods that this package refers to by name.
const (
	methodToolsCall     = "tools/call"
	methodPromptsGet    = "prompts/get"
	methodResourcesRead = "resources/read"
	methodInitialize    = "initialize"
)

// The methods about tasks. MCP 2025-11-25 (Tasks) has all of them except tasks/update.
// SEP-2663, an extension of MCP 2026-07-28, has all except tasks/result and tasks/list.
const (
	MethodTaskGet    = "tasks/get"
	MethodTaskResult = "tasks/result"
	MethodTaskList   = "tasks/list"
	MethodTaskCancel = "tasks/cancel"
	MethodTaskUpdate = "tasks/update"
)

// MethodTaskStatus is the notification with which the receiver of a request reports the
// status of the task for that request (MCP 2025-11-25, Tasks). A client sends it for a
// request that it has received from the server.
const MethodTaskStatus = "notifications/tasks/status"

// MethodResourceUpdated is the notification with which a server reports that a
// resource has changed (MCP 2025-11-25, Resources; 2026-07-28, subscriptions).
const MethodResourceUpdated = "notifications/resources/updated"

// MethodListen opens a stream of notifications (MCP 2026-07-28, subscriptions).
const MethodListen = "subscriptions/listen"

// methods lists every method that clients send.
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
	{Name: MethodListen, Stateless: true, Streams: true},
	{Name: "logging/setLevel", Session: true, Rules: true},
	{Name: "completion/complete", Session: true, Stateless: true, Rules: true},
	{Name: "resources/subscribe", Session: true, Names: ParamURI, About: AboutResource, Rules: true},
	{Name: "resources/unsubscribe", Session: true, Names: ParamURI, About: AboutResource, Rules: true},

	{Name: MethodTaskGet, Session: true, Stateless: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskResult, Session: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskList, Session: true, Lists: ListTasks},
	{Name: MethodTaskCancel, Session: true, Stateless: true, Names: ParamTaskID, About: AboutTask},
	{Name: MethodTaskUpdate, Stateless: true, Names: ParamTaskID, About: AboutTask},

	// The stateless HTTP transport does not need this notification, because closing the
	// stream cancels a request. But clients that support two transports send it anyway.
	{Name: "notifications/cancelled", Session: true, Stateless: true, Notifies: true, Upkeep: true},
	{Name: "notifications/initialized", Session: true, Notifies: true, Upkeep: true},
	{Name: "notifications/progress", Session: true, Notifies: true, Upkeep: true},
	{Name: "notifications/roots/list_changed", Session: true, Notifies: true, Upkeep: true},
}

// methodsByLength indexes methods by the length of the name. Few names have the same
// length, so a lookup takes about one comparison, which is faster than hashing the name
// for a map.
var methodsByLength = func() (index [maxMethodName + 1][]*Method) {
	for i := range methods {
		n := len(methods[i].Name)
		index[n] = append(index[n], &methods[i])
	}
	return index
}()

// LookupMethod returns the method with exactly the given name. It returns false for a
// method that clients send in no era.
func LookupMethod(name string) (Method, bool) {
	if m := lookupMethod(name); m != nil {
		return *m, true
	}
	return Method{}, false
}

// lookupMethod returns the entry of methods with the given name, or nil.
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

// Target returns the name of the message's target. It returns "" if the method has no
// target or the message does not name it.
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
