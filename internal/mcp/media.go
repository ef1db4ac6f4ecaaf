package mcp

import "mime"

// The media types of messages (MCP 2025-11-25, Streamable HTTP).
const (
	TypeJSON   = "application/json"
	TypeEvents = "text/event-stream"
)

// ParseMediaType returns the same results as mime.ParseMediaType. It is faster for the
// two media types of messages, which nearly all requests and responses have. The
// returned map must not be changed.
func ParseMediaType(value string) (media string, params map[string]string, err error) {
	if value == TypeJSON || value == TypeEvents {
		return value, nil, nil
	}
	return mime.ParseMediaType(value)
}
