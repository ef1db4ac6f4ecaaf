package mcp

import "strings"

// Era is the family of protocol versions that a request belongs to.
type Era uint8

const (
	// EraSession is 2025-11-25 and older: a session, begun by initialize.
	EraSession Era = iota + 1
	// EraStateless is 2026-07-28: every request stands for itself.
	EraStateless
)

// String returns "session" or "stateless", or "Era(n)" for a value that is
// neither.
func (e Era) String() string {
	return nameOf("Era", []string{"", "session", "stateless"}, uint8(e))
}

// The methods that this package treats in a way of their own.
const (
	methodToolsCall     = "tools/call"
	methodPromptsGet    = "prompts/get"
	methodResourcesRead = "resources/read"
	methodInitialize    = "initialize"
)

// The methods of tasks: those of MCP 2025-11-25, Tasks, have all but the
// update; those of SEP-2663, an extension of 2026-07-28, neither the result nor
// the list.
const (
	MethodTaskGet    = "tasks/get"
	MethodTaskResult = "tasks/result"
	MethodTaskList   = "tasks/list"
	MethodTaskCancel = "tasks/cancel"
	MethodTaskUpdate = "tasks/update"
)

// MethodTaskStatus is how the receiver of a request tells of the task that it
// made of it (MCP 2025-11-25, Tasks): also a client, of its own.
const MethodTaskStatus = "notifications/tasks/status"

// MethodResourceUpdated is how a server tells that a resource was changed (MCP
// 2025-11-25, Resources; 2026-07-28, subscriptions).
const MethodResourceUpdated = "notifications/resources/updated"

// OfOneTask reports whether a method is about the task of params.taskId.
func OfOneTask(method string) bool {
	switch method {
	case MethodTaskGet, MethodTaskResult, MethodTaskCancel, MethodTaskUpdate:
		return true
	}
	return false
}

// MayAsk reports whether the answer to a method may be a request for input, to
// be followed by the same request with its requestState (MCP 2026-07-28,
// multi round-trip requests).
func MayAsk(method string) bool {
	switch method {
	case methodToolsCall, methodPromptsGet, methodResourcesRead:
		return true
	}
	return false
}

// KnownMethod reports whether the message belongs to the closed list of what
// clients send in that era: its requests, its notifications, and in a session
// any response. A request's method sent as a notification is not known, nor a
// notification's sent as a request.
func KnownMethod(era Era, m *Message) bool {
	switch {
	case era == EraSession && m.Kind == KindRequest:
		return sessionRequest(m.Method)
	case era == EraSession && m.Kind == KindNotification:
		return sessionNotification(m.Method)
	case era == EraSession:
		return m.Kind == KindResponse
	case era == EraStateless && m.Kind == KindRequest:
		return statelessRequest(m.Method)
	case era == EraStateless && m.Kind == KindNotification:
		// The transport has no client notification of its own (closing the
		// stream cancels), but clients of two transports send this one.
		return m.Method == "notifications/cancelled"
	}
	return false
}

// IsUpkeep reports whether a message only begins, keeps and ends a session, looks
// at what there is, or belongs to a request that was made before: it asks for no
// work of the server's own.
func IsUpkeep(m *Message) bool {
	switch m.Kind {
	case KindResponse: // to what the server asked in the course of a call
		return true
	case KindNotification:
		return sessionNotification(m.Method)
	}
	switch m.Method {
	case methodInitialize, "ping", "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return true
	}
	return false
}

// notificationPrefix begins the names of the protocol's notifications, and of
// those of its extensions.
const notificationPrefix = "notifications/"

// IsNotification reports whether a method is that of a notification by its name,
// whoever has defined it: a server runs no request for it.
func IsNotification(method string) bool { return strings.HasPrefix(method, notificationPrefix) }

func sessionRequest(method string) bool {
	switch method {
	case methodInitialize, "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
		MethodTaskResult, MethodTaskList:
		return true
	}
	return sharedRequest(method)
}

func statelessRequest(method string) bool {
	switch method {
	case "server/discover", "subscriptions/listen", MethodTaskUpdate:
		return true
	}
	return sharedRequest(method)
}

// sharedRequest lists the requests that both eras have.
func sharedRequest(method string) bool {
	switch method {
	case "tools/list", methodToolsCall, "prompts/list", methodPromptsGet,
		"resources/list", "resources/templates/list", methodResourcesRead, "completion/complete",
		MethodTaskGet, MethodTaskCancel:
		return true
	}
	return false
}

func sessionNotification(method string) bool {
	switch method {
	case "notifications/initialized", "notifications/cancelled", "notifications/progress",
		"notifications/roots/list_changed":
		return true
	}
	return false
}

// internMethod returns a method as a string, without an allocation if it is
// one that clients send often.
func internMethod(b []byte) string {
	switch string(b) {
	case methodToolsCall:
		return methodToolsCall
	case "tools/list":
		return "tools/list"
	case "ping":
		return "ping"
	case methodResourcesRead:
		return methodResourcesRead
	case methodPromptsGet:
		return methodPromptsGet
	case "server/discover":
		return "server/discover"
	case methodInitialize:
		return methodInitialize
	case "notifications/initialized":
		return "notifications/initialized"
	}
	return string(b)
}

// internVersion does the same for protocol versions.
func internVersion(b []byte) string {
	if string(b) == statelessVersion {
		return statelessVersion
	}
	return string(b)
}
