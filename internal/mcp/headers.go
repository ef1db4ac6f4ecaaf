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

// CheckHeaders decides the era of a message and checks the HTTP headers against the
// body.
//
// A message belongs to EraStateless if its _meta has a protocol version. It also
// belongs to EraStateless if the MCP-Protocol-Version header is 2026-07-28 or later,
// unless the message is initialize, which begins a session. In EraStateless, three
// headers must agree with the body. MCP-Protocol-Version must equal the version in
// _meta. Mcp-Method must equal the method. Mcp-Name must equal the name, URI or task id
// in params if the method has such a target. Each of these headers must occur exactly
// once. Mcp-Method and Mcp-Name may be encoded as =?base64?...?= (MCP 2026-07-28,
// Streamable HTTP, "Request Metadata"). All other headers are ignored. A notification
// may lack Mcp-Method: MCP 2026-07-28 requires the header only in requests, and the
// TypeScript SDK 2.3.1 sends it only there.
//
// In EraSession, CheckHeaders checks only that MCP-Protocol-Version occurs at most
// once. It ignores Mcp-Method and Mcp-Name, which some clients send in sessions too. In
// a session, no decision may depend on these two headers.
//
// The error is always an *Error with the message's id. The error's code is
// HeaderMismatch, with two exceptions. For a request without a version in _meta, the
// code is InvalidParams if the MCP-Protocol-Version header has a stateless version.
// For a response, the code is InvalidRequest, because clients send no responses in a
// stateless version.
func CheckHeaders(h http.Header, m *Message) (Era, error) {
	versions := h[headerVersion]
	if len(versions) > 1 {
		return 0, mismatch(m, "the MCP-Protocol-Version header must not occur more than once")
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
		return 0, mismatch(m, "the Mcp-Method header must occur exactly once and equal the method")
	}
	if name, ok := routingName(m); ok && !carries(h[headerName], name) {
		return 0, mismatch(m, "the Mcp-Name header must occur exactly once and equal the name, URI or task in params")
	}
	return EraStateless, nil
}

func mismatch(m *Message, reason string) *Error {
	return &Error{Code: HeaderMismatch, Reason: reason, ID: m.ID}
}

// isStateless reports whether a version header is 2026-07-28 or a later date. It
// returns false for a value that does not begin with a date. The server refuses such a
// value.
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

// routingName returns the value that Mcp-Name must have, and whether the method
// requires that header. SEP-2663, "Routing Headers", requires it for methods about
// tasks.
func routingName(m *Message) (string, bool) {
	method := lookupMethod(m.Method)
	if method == nil || !method.Stateless || method.Names == ParamNone {
		return "", false
	}
	return method.Target(m), true
}

// carries reports whether a header occurs exactly once, with a value that decodes to
// the given text. values has one element for each occurrence of the header.
func carries(values []string, text string) bool {
	if len(values) != 1 {
		return false
	}
	value, ok := headerText(values[0])
	return ok && value == text
}

// headerText decodes a header value. Text beyond ASCII should be encoded, but clients
// and servers of go-sdk 1.8.0 use plain UTF-8, so headerText accepts that, too.
func headerText(value string) (string, bool) {
	if encoded, ok := strings.CutPrefix(value, "=?base64?"); ok {
		if encoded, ok = strings.CutSuffix(encoded, "?="); ok {
			text, err := base64.StdEncoding.Strict().DecodeString(encoded)
			// The decoder skips line ends, which a header must not have.
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
