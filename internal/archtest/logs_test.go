package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// loggedMessage finds the message of a log statement at INFO or above, and the
	// text that follows the message.
	loggedMessage = regexp.MustCompile(`(?:[lL]ogger\.(?:Info|Warn|Error)\(|logFailure\(slog\.Level\w+, |[a-z]\.log\(slog\.Level\w+, |Logger\.Log\(ctx, \w+, )"([^"]+)"([^\n]*\n[^\n]*)`)
	loggedField   = regexp.MustCompile(`[,(]\s*"([a-z_]+)",`)
	accessField   = regexp.MustCompile(`(?:zap|slog)\.\w+\("(farebox_[a-z]+)"`)
	quoted        = regexp.MustCompile("`([^`]+)`")
)

// TestLogsAreDocumented checks that docs/logs.md lists two things: each message that
// is logged at INFO or above, together with its fields, and each field of the access
// log.
func TestLogsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "logs.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // for each quoted text, the lines of the page that quote it
	for line := range strings.Lines(string(text)) {
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			rows[m[1]] += line
		}
	}
	find := func(message string) string {
		for name, line := range rows {
			if begin, cut := strings.CutSuffix(name, "…"); name == message || cut && len(begin) > 20 && strings.HasPrefix(message, begin) {
				return line
			}
		}
		return ""
	}
	n := 0
	files(t, ".go", func(path, source string) {
		inside := strings.Contains(path, "/internal/") || strings.Contains(path, "/caddymodule/")
		if !inside || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, m := range loggedMessage.FindAllStringSubmatch(source, -1) {
			n++
			row := find(m[1])
			if row == "" {
				t.Errorf("%s logs %q, which docs/logs.md does not have", path, m[1])
				continue
			}
			statement, _, _ := strings.Cut(m[2], ")\n")
			cells := strings.Split(strings.Trim(row, " |\n"), "|")
			last := cells[len(cells)-1] // may list the fields of the messages in this row
			for _, field := range loggedField.FindAllStringSubmatch(statement, -1) {
				own := len(cells) > 1 && strings.Contains(last, "`")
				if rows[field[1]] == "" || own && !strings.Contains(last, "`"+field[1]+"`") {
					t.Errorf("docs/logs.md does not have the field %q of %q", field[1], m[1])
				}
			}
		}
		for _, m := range accessField.FindAllStringSubmatch(source, -1) {
			if rows[m[1]] == "" {
				t.Errorf("docs/logs.md does not have the field %s of the access log, of %s", m[1], path)
			}
		}
	})
	if n < 40 {
		t.Errorf("only %d messages were found: the pattern is out of date", n)
	}
}
