package screen

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// help lists the keys to press and the words on the screen, each with an explanation.
var help = [][2]string{
	{"q, Esc, Ctrl-C", "quit"},
	{"p, Space", "pause, and go on"},
	{"+ -", "a longer or a shorter interval between two requests to the gateway"},
	{"s", "the next order of the tools: by calls, by mean time, by money, by name"},
	{"↑ ↓ PgUp PgDn Home End", "scroll"},
	{"", ""},
	{"rates, times", "are of the last ten seconds, or of one interval if that is longer"},
	{"in all", "since the start of the gateway's process; so are numbers with ×"},
	{"-", "the gateway does not have this figure, or nothing happened to be timed"},
	{"charged", "paid calls"},
	{"free", "requests that cost nothing, and paid ones that are sent again"},
	{"not charged", "paid calls that failed at the server, or whose client left"},
	{"refused", "the caller may not, cannot pay, or sent a wrong request, by code"},
	{"failed", "a server, the store or the config is at fault"},
	{"refused, no money", "the balance or a spending cap does not suffice"},
	{"refunds owed", "of results that were not delivered, until the store takes them"},
	{"added by farebox", "a request's time less that of the server behind"},
	{"tool other", "requests without a price of their own, such as lists"},
	{"upstream", "the servers that farebox guards: from forwarding to the end of a response"},
	{"from the cache", "lookups of keys that did not ask the store"},
	{"revocation lag", "how old the knowledge of deleted keys is; 0 on SQLite"},
}

// helpLines draws the help.
func helpLines(width int) []string {
	const label = 24
	var lines []string
	for _, h := range help {
		if width < label+24 { // the screen is narrow: each explanation goes below its keys
			lines = append(lines, strong.paint(h[0]))
			if h[1] != "" {
				lines = append(lines, indented(h[1], 2, width)...)
			}
			continue
		}
		for i, line := range indented(h[1], label, width) {
			if i == 0 {
				line = strong.paint(fit(h[0], label)) + line[label:]
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// indented wraps a text into lines of at most the given width, including the spaces at
// the beginning of each line.
func indented(text string, indent, width int) []string {
	lines := strings.Split(ansi.Wrap(text, max(1, width-indent), ""), "\n")
	for i := range lines {
		lines[i] = strings.Repeat(" ", indent) + lines[i]
	}
	return lines
}
