package caddymodule

import (
	"strings"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/mcp"
)

const (
	// maxLeftOut bounds how often one response is told to have had something left
	// out: a server could fill the log with it.
	maxLeftOut = 20
	// maxToldName bounds the name of an item in the log, in bytes.
	maxToldName = 256
)

// leftOut returns what tells the operator of events that a client does not get.
func (x *exchange) leftOut() func(reason string) {
	told := 0
	return func(reason string) {
		if told++; told <= maxLeftOut {
			x.h.logger.Warn("an event was left out of a stream", "server", x.h.Server, "method", x.message.Method, "tool", x.message.Name, "reason", reason)
		}
	}
}

// leftOutOf returns what tells the operator of items that a client does not find
// in a list, since they cannot be read.
func (x *exchange) leftOutOf(list mcp.List) func(index int, name, reason string) {
	told := 0
	return func(index int, name, reason string) {
		if told++; told <= maxLeftOut {
			x.h.logger.Warn("an item was left out of a list", "server", x.h.Server, "list", list.String(), "index", index, "name", shortName(name), "reason", reason)
		}
	}
}

// shortName is a name as it may stand in a log.
func shortName(name string) string {
	if len(name) > maxToldName {
		end := maxToldName
		for end > 0 && !utf8.RuneStart(name[end]) {
			end--
		}
		name = name[:end] + "…"
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}
