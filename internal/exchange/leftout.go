package exchange

import (
	"strings"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/mcp"
)

const (
	// maxLeftOut limits the log lines about omissions from one response, because a
	// server could fill the log with them.
	maxLeftOut = 20
	// maxLoggedName limits an item's name in the log, in bytes.
	maxLoggedName = 256
)

// leftOut returns the function that logs events that are withheld from a client.
func (x *Exchange) leftOut() func(reason string) {
	count := 0
	return func(reason string) {
		if count++; count <= maxLeftOut {
			x.site.Logger.Warn("an event was left out of a stream", "server", x.site.Server, "method", x.message.Method, "tool", x.message.Name, "reason", reason)
		}
	}
}

// leftOutOf returns the function that logs items that are missing from a list
// because they cannot be read.
func (x *Exchange) leftOutOf(list mcp.List) func(index int, name, reason string) {
	count := 0
	return func(index int, name, reason string) {
		if count++; count <= maxLeftOut {
			x.site.Logger.Warn("an item was left out of a list", "server", x.site.Server, "list", list.String(), "index", index, "name", shortName(name), "reason", reason)
		}
	}
}

// shortName shortens a name for the log and makes it valid UTF-8.
func shortName(name string) string {
	if len(name) > maxLoggedName {
		end := maxLoggedName
		for end > 0 && !utf8.RuneStart(name[end]) {
			end--
		}
		name = name[:end] + "…"
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}
