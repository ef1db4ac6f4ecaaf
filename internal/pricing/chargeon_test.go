package pricing

import (
	"strings"
	"testing"
)

// TestParseChargeOn checks that String returns the words from which ParseChargeOn
// has made a set, and that sets that never charge are refused.
func TestParseChargeOn(t *testing.T) {
	for text, want := range map[string]ChargeOn{
		"success":                              Success,
		"success tool_error":                   Success | ToolError,
		"success abandoned":                    Success | Abandoned,
		"tool_error":                           ToolError,
		"started":                              Started,
		"success tool_error abandoned started": Success | ToolError | Abandoned | Started,
	} {
		if got, err := ParseChargeOn(strings.Fields(text)); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                "want one or more of success, tool_error, abandoned, started",
		"succes":          `unknown "succes"; known: success`,
		"success success": "success is given twice",
		"abandoned":       "abandoned alone charges nothing",
	} {
		if got, err := ParseChargeOn(strings.Fields(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v, want %q", text, got, err, want)
		}
	}
}
