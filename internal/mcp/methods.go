package mcp

import "strings"

// Era is the family of protocol versions that a request belongs to.
type Era uint8

const (
	// EraSession is 2025-11-25 and older: a session, begun by initialize.
	EraSession Era = iota + 1
	// EraStateless is 2026-07-28: every request is independent.
	EraStateless
)

// String returns "session" or "stateless", or "Era(n)" for any other value.
func (e Era) String() string {
	return nameOf("Era", []string{"", "session", "stateless"}, uint8(e))
}

// OfOneTask reports whether a method is about the task of params.taskId.
func OfOneTask(method string) bool {
	m := lookupMethod(method)
	return m != nil && m.About == AboutTask
}

// MayAsk reports whether the result of a method may be a request for input, after
// which the client sends the same request with its requestState (MCP 2026-07-28,
// multi round-trip requests).
func MayAsk(method string) bool {
	m := lookupMethod(method)
	return m != nil && m.MayAsk
}

// KnownMethod reports whether clients send that message in that era: a request or a
// notification of the protocol, or in a session any response. It does not know the
// method of a request in a notification, nor that of a notification in a request.
func KnownMethod(era Era, m *Message) bool {
	switch m.Kind {
	case KindRequest, KindNotification:
	default:
		return m.Kind == KindResponse && era == EraSession
	}
	method := lookupMethod(m.Method)
	if method == nil || method.Notifies != (m.Kind == KindNotification) {
		return false
	}
	return era == EraSession && method.Session || era == EraStateless && method.Stateless
}

// IsUpkeep reports whether a message asks for no work of the server's own: it begins,
// keeps or ends a session, lists the server's items, or belongs to an earlier request.
func IsUpkeep(m *Message) bool {
	if m.Kind == KindResponse { // to a server's request in the course of a call
		return true
	}
	method := lookupMethod(m.Method)
	return method != nil && method.Upkeep && method.Notifies == (m.Kind == KindNotification)
}

// notificationPrefix begins the names of notifications, the protocol's and those of
// its extensions.
const notificationPrefix = "notifications/"

// IsNotification reports whether a method has the name of a notification, whether or
// not the protocol defines it: servers run no request for it.
func IsNotification(method string) bool { return strings.HasPrefix(method, notificationPrefix) }

// internMethod returns a method as a string, without an allocation if the protocol
// has it.
func internMethod(b []byte) string {
	if m := lookupMethod(b); m != nil {
		return m.Name
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
