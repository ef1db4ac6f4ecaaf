package mcp

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

// statelessVersion is the first protocol version without sessions.
const statelessVersion = "2026-07-28"

const (
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
)

// CheckHeaders decides the era of a message and checks its headers against its body.
//
// A message is of EraStateless if its _meta carries a protocol version, or if
// its MCP-Protocol-Version header is 2026-07-28 or later and it is not
// initialize, which selects a session. Then MCP-Protocol-Version must equal the
// version in _meta, Mcp-Method the method, and Mcp-Name the name, the URI or
// the task that the method is about; each must come exactly once. A value may be
// written as =?base64?...?= (MCP 2026-07-28, Streamable HTTP, "Request
// Metadata"). It ignores all other headers. A notification may come
// without Mcp-Method: the version requires it in requests, and the TypeScript
// SDK 2.3.1 sends it only in those.
//
// In EraSession it checks only that MCP-Protocol-Version comes at most once. It
// ignores Mcp-Method and Mcp-Name: some clients send them in sessions too, and no
// decision may depend on them.
//
// The error is always an *Error with the message's id. Its code is
// HeaderMismatch, but InvalidParams for a request whose header names a
// stateless version while its _meta names none, and InvalidRequest for a
// response, which that version does not have.
func CheckHeaders(h http.Header, m *Message) (Era, error) {
	versions := h[headerVersion]
	if len(versions) > 1 {
		return 0, mismatch(m, "the MCP-Protocol-Version header must be there once")
	}
	if m.ProtocolVersion == "" {
		if len(versions) == 0 || !isStateless(versions[0]) || m.Method == methodInitialize {
			return EraSession, nil
		}
		switch m.Kind {
		case KindRequest:
			return 0, &Error{Code: InvalidParams, ID: m.ID,
				Reason: "params._meta must have io.modelcontextprotocol/protocolVersion, as the MCP-Protocol-Version header says"}
		case KindResponse:
			return 0, &Error{Code: InvalidRequest, ID: m.ID,
				Reason: "this protocol version has no responses from clients"}
		}
	} else if len(versions) == 0 || versions[0] != m.ProtocolVersion {
		return 0, mismatch(m, "the MCP-Protocol-Version header must equal io.modelcontextprotocol/protocolVersion in params._meta")
	}
	omitted := m.Kind == KindNotification && len(h[headerMethod]) == 0
	if !omitted && !carries(h[headerMethod], m.Method) {
		return 0, mismatch(m, "the Mcp-Method header must be there once and equal the method")
	}
	if name, ok := routingName(m); ok && !carries(h[headerName], name) {
		return 0, mismatch(m, "the Mcp-Name header must be there once and equal the name, URI or task in params")
	}
	return EraStateless, nil
}

func mismatch(m *Message, reason string) *Error {
	return &Error{Code: HeaderMismatch, Reason: reason, ID: m.ID}
}

// isStateless reports whether a version header names 2026-07-28 or a later date.
// Values that do not begin like a date are left to the server to refuse.
func isStateless(version string) bool {
	if len(version) < len(statelessVersion) {
		return false
	}
	for i := range len(statelessVersion) {
		c := version[i]
		if i == 4 || i == 7 {
			if c != '-' {
				return false
			}
		} else if c < '0' || c > '9' {
			return false
		}
	}
	return version >= statelessVersion
}

// routingName returns the value required in Mcp-Name, and whether the method requires
// that header. Methods about tasks follow SEP-2663, "Routing Headers".
func routingName(m *Message) (string, bool) {
	method := lookupMethod(m.Method)
	if method == nil || !method.Stateless || method.Names == ParamNone {
		return "", false
	}
	return method.Target(m), true
}

// carries reports whether there is exactly one header value, and it encodes that
// text.
func carries(values []string, text string) bool {
	if len(values) != 1 {
		return false
	}
	value, ok := headerText(values[0])
	return ok && value == text
}

// headerText decodes a header value. Text beyond ASCII should be encoded; go-sdk
// 1.8.0 writes it unencoded, in UTF-8, and its servers read it so.
func headerText(value string) (string, bool) {
	if encoded, ok := strings.CutPrefix(value, "=?base64?"); ok {
		if encoded, ok = strings.CutSuffix(encoded, "?="); ok {
			text, err := base64.StdEncoding.Strict().DecodeString(encoded)
			// The decoder skips line ends, which a header cannot have.
			return string(text), err == nil && utf8.Valid(text) && !strings.ContainsAny(encoded, "\r\n")
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7F {
			return "", false
		}
	}
	return value, utf8.ValidString(value)
}
