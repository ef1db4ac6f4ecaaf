package keys

import (
	"strings"
	"testing"
)

// TestConceal: Conceal leaves no digit of a secret, even of one that is truncated or in
// capitals, and does not change other texts.
func TestConceal(t *testing.T) {
	secret := Mint(Agent, Live)
	digits := strings.TrimPrefix(secret, "sk_live_")
	for text, want := range map[string]string{
		"/mcp":                               "/mcp",
		"/mcp?a_b=sk_live":                   "/mcp?a_b=sk_live",
		"/mcp?sk_live_demo=1":                "/mcp?sk_live_demo=1",
		"/mcp?key=" + secret:                 "/mcp?key=sk_live_REDACTED",
		"/mcp/" + secret + "/x?k=" + secret:  "/mcp/sk_live_REDACTED/x?k=sk_live_REDACTED",
		secret[:len(secret)-30] + "&x=1":     "sk_live_REDACTED&x=1",
		"sk_live_" + strings.ToUpper(digits): "sk_live_REDACTED",
		"pat_test_" + digits + " " + secret:  "pat_test_REDACTED sk_live_REDACTED",
		"sk_live_sk_live_" + digits + digits: "sk_live_sk_live_REDACTED",
	} {
		got, found := DefaultFormat.Conceal(text)
		if got != want || found != (got != text) {
			t.Errorf("%q is concealed as %q, %v; want %q", text, got, found, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { DefaultFormat.Conceal("/mcp?session_id=abc") }); n != 0 {
		t.Errorf("%v allocations for a text without one", n)
	}
}
