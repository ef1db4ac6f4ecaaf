package limits

import (
	"strings"
	"testing"
)

// TestParseCaps checks that --cap sets and removes caps, and refuses malformed caps and
// two caps for one period. It also checks the text that CapsText makes of caps.
func TestParseCaps(t *testing.T) {
	if caps, err := ParseCaps(nil); caps != nil || err != nil {
		t.Errorf("no flags: %v, %v", caps, err)
	}
	caps, err := ParseCaps([]string{"day=20", "call=none", "month=0.000001"})
	if err != nil || *caps.Day != 20_000_000 || *caps.Call != 0 || *caps.Month != 1 {
		t.Errorf("got %+v, %v", caps, err)
	}
	if got := CapsText(caps); got != "0.00 a call, 20.00 a day, 0.000001 a month" {
		t.Errorf("shown as %q", got)
	}
	if got := CapsText(nil); got != "-" {
		t.Errorf("no caps are shown as %q", got)
	}
	for _, bad := range []string{"", "day", "day=", "=5", "Day=5", "year=5", "day=0", "day=-1", "day=1e3", "day= 5", "day=5 USD", "call=None"} {
		if caps, err := ParseCaps([]string{bad}); err == nil || !strings.Contains(err.Error(), "--cap") {
			t.Errorf("%q: %v, %v", bad, caps, err)
		}
	}
	if _, err := ParseCaps([]string{"day=none", "day=5"}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("twice: %v", err)
	}
}
