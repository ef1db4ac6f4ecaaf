package archtest

import (
	"regexp"
	"strings"
	"testing"
)

var (
	systemTime = regexp.MustCompile(`\b(time\.(Now|Since|Until)|uuid\.NewV7|uuid\.NewUUID)\b`)
	comment    = regexp.MustCompile(`(?m)//.*$`)
)

// TestOneClock checks that all code, including tests, takes the time from
// internal/clock, and ids that contain the time from internal/id. A linker flag can
// shift the clock of internal/clock in a test binary. Code with another clock would
// then disagree with the rest of the binary.
func TestOneClock(t *testing.T) {
	seen := 0
	files(t, ".go", func(path, text string) {
		name := strings.TrimPrefix(path, root+"/")
		if strings.HasPrefix(name, "internal/clock/") || strings.HasPrefix(name, "internal/id/") {
			return
		}
		seen++
		for _, found := range systemTime.FindAllString(comment.ReplaceAllString(text, ""), -1) {
			if name == "internal/archtest/clock_test.go" {
				continue
			}
			t.Errorf("%s uses %s; take it from internal/clock or internal/id", name, found)
		}
	})
	if seen < 100 {
		t.Errorf("looked at %d files only", seen)
	}
}
