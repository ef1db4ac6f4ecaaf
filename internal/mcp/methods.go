package mcp

import "strings"

// Era is a family of protocol versions.
type Era uint8

const (
	// EraSession is MCP 2025-11-25 and older, where initialize begins a session.
	EraSession Era = iota + 1
	// EraStateless is MCP 2026-07-28 and later, where every request is independent.
	EraStateless
)

// String returns "session" or "stateless", or "Era(n)" for any other value.
func (e Era) String() string {
	return nameOf("Era", []string{"", "session", "stateless"}, uint8(e))
}

// OfOneTask reports whether a method is about the single task in params.taskId.
func OfOneTask(method string) bool {
	m := lookupMethod(method)
	return m != nil && m.About == AboutTask
}

// MayAsk reports whether the result of a method may be a request for input. The client
// then sends the same request again, with the requestState from that result (MCP
// 2026-07-28, multi round-trip requests).
func MayAsk(method string) bool {
	m := lookupMethod(method)
	return m != nil && m.MayAsk
}

// KnownMethod reports whether clients send messages with the kind and the method of
// m in the era. The method of a request must be a request method of the protocol,
// and the method of a notification must be a notification method of the protocol. A
// response is known only in EraSession.
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

// IsUpkeep reports whether a message does not use the server's items: it begins, keeps
// or ends a session, lists the items, or belongs to an earlier request.
func IsUpkeep(m *Message) bool {
	if m.Kind == KindResponse { // responds to a request that the server made during a call
		return true
	}
	method := lookupMethod(m.Method)
	return method != nil && method.Upkeep && method.Notifies == (m.Kind == KindNotification)
}

// notificationPrefix begins the name of every notification, in the protocol and in its
// extensions.
const notificationPrefix = "notifications/"

// IsNotification reports whether a method has the name of a notification, even one that
// the protocol does not define. Servers do not run such a method as a request.
func IsNotification(method string) bool { return strings.HasPrefix(method, notificationPrefix) }

// internMethod returns a method as a string. It does not allocate for a method in
// methods.
func internMethod(b []byte) string {
	if m := lookupMethod(b); m != nil {
		return m.Name
	}
	return string(b)
}

// internVersion returns a protocol version as a string. It does not allocate for
// statelessVersion.
func internVersion(b []byte) string {
	if string(b) == statelessVersion {
		return statelessVersion
	}
	return string(b)
}
