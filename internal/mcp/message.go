package mcp

import (
	"fmt"
	"strconv"
)

// Kind is the kind of a client's message. The zero Kind is not valid.
type Kind uint8

const (
	// KindRequest has a method and an id.
	KindRequest Kind = iota + 1
	// KindNotification has a method and no id.
	KindNotification
	// KindResponse is a client's response to a request from the server. It exists
	// only in protocol versions with sessions.
	KindResponse
)

// String returns "request", "notification" or "response", or "Kind(n)" for an unknown
// value.
func (k Kind) String() string {
	return nameOf("Kind", []string{"", "request", "notification", "response"}, uint8(k))
}

// nameOf returns names[v], the name of a value of the enumeration enum. If v has no
// name, nameOf returns the enumeration with the number, such as "Kind(7)".
func nameOf(enum string, names []string, v uint8) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", enum, v)
}

const (
	// maxIDLength bounds a string id, in bytes of its unescaped text.
	maxIDLength = 128
	// maxIDNumber bounds the magnitude of an integer id. Parsers that store numbers as
	// doubles could confuse two different ids beyond this bound (RFC 8259, section 6).
	maxIDNumber = 1<<53 - 1
)

type idKind uint8

const (
	idNone idKind = iota
	idText
	idNumber
)

// ID is the id of a request: a string of at most 128 bytes, or an integer from
// -(2^53-1) to 2^53-1. Two IDs are == if and only if they are the same id. The string
// "1" and the integer 1 are different ids. The zero ID means that there is no id.
type ID struct {
	kind   idKind
	text   string
	number int64
}

// StringID returns the id with the given text, or the zero ID if the text is longer
// than 128 bytes.
func StringID(text string) ID {
	if len(text) > maxIDLength {
		return ID{}
	}
	return ID{kind: idText, text: text}
}

// IntID returns the id with the integer n, or the zero ID if n is beyond ±(2^53-1).
func IntID(n int64) ID {
	if n < -maxIDNumber || n > maxIDNumber {
		return ID{}
	}
	return ID{kind: idNumber, number: n}
}

// IsZero reports whether there is no id.
func (id ID) IsZero() bool { return id.kind == idNone }

// Text returns the text of a string id, or an integer id in decimal, or "" for the zero
// ID. Some servers compare ids only by this text, and so confuse "1" and 1.
func (id ID) Text() string {
	if id.kind == idNumber {
		return strconv.FormatInt(id.number, 10)
	}
	return id.text
}

// AppendJSON appends the id as JSON: a string, an integer, or null for the
// zero ID.
func (id ID) AppendJSON(b []byte) []byte {
	switch id.kind {
	case idText:
		return appendString(b, id.text)
	case idNumber:
		return strconv.AppendInt(b, id.number, 10)
	}
	return append(b, "null"...)
}

// MarshalJSON returns the id as JSON; the error is always nil.
func (id ID) MarshalJSON() ([]byte, error) { return id.AppendJSON(nil), nil }

// parseIDNumber parses an integer id in its canonical form: without a fraction, an
// exponent, a leading zero or a plus sign, and not -0. It returns false for any other
// form, because parsers differ about whether such a form, for example 7.0, is the same
// id as 7.
func parseIDNumber(raw []byte) (int64, bool) {
	digits := raw
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	// Every number within the bound has at most 16 digits, and 16 digits fit an int64.
	if len(digits) == 0 || len(digits) > 16 || digits[0] == '0' && len(raw) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if n > maxIDNumber {
		return 0, false
	}
	if raw[0] == '-' {
		n = -n
	}
	return n, true
}

// Message is one JSON-RPC message that Decode has accepted. Its byte slices alias the
// decoded body; its strings do not.
type Message struct {
	Kind   Kind
	Method string // unescaped; "" for a KindResponse
	ID     ID     // zero for a KindNotification

	Params          []byte // the raw object; nil if absent
	Name            string // params.name, unescaped: the tool of tools/call, the prompt of prompts/get; "" if absent or not a string
	URI             string // params.uri, unescaped; "" if absent or not a string
	Arguments       []byte // raw params.arguments, an object for tools/call; nil if absent
	Meta            []byte // raw params._meta, an object; nil if absent
	ProtocolVersion string // _meta["io.modelcontextprotocol/protocolVersion"]; "" if absent
	MaxPrice        string // _meta["dev.farebox/max-price"], unescaped; "" if absent
	IdempotencyKey  string // _meta["dev.farebox/idempotency-key"], unescaped, 1 to MaxIdempotencyKey bytes long; "" if absent
	Task            bool   // params.task is present, with any value (protocol version 2025-11-25)
	Follow          bool   // params.requestState or params.inputResponses is present (protocol version 2026-07-28)
	HasState        bool   // params.requestState is present and a string (protocol version 2026-07-28)
	RequestState    string // params.requestState, unescaped
	TaskID          string // params.taskId, unescaped; "" if absent or not a string
	Cursor          string // params.cursor, unescaped; "" if absent or not a string
}

// JSON-RPC error codes for refused messages.
const (
	// ParseError is for a body that is not JSON.
	ParseError = -32700
	// InvalidRequest is for JSON that is not a single message with a single meaning.
	InvalidRequest = -32600
	// InvalidParams is for params that are invalid for the method.
	InvalidParams = -32602
	// HeaderMismatch is for HTTP headers that contradict the body (MCP 2026-07-28,
	// Streamable HTTP, "Request Metadata").
	HeaderMismatch = -32020
)

// Error is the reason why a message was refused.
type Error struct {
	Code   int    // ParseError, InvalidRequest, InvalidParams or HeaderMismatch
	Reason string // a plain sentence without quotations from the message
	Offset int    // position in the body, in bytes; 0 also if the error has no position
	ID     ID     // id of the message; the zero ID if the message's id is not certain
}

// Error returns the reason, with the offset unless it is 0.
func (e *Error) Error() string {
	if e.Offset == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s (at byte %d)", e.Reason, e.Offset)
}
