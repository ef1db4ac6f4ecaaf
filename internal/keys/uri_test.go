package keys

import "testing"

// TestConcealURI checks that access tokens in a URL are redacted, and that other URLs
// stay as they are. The check of a usual URL must not allocate memory.
func TestConcealURI(t *testing.T) {
	for uri, want := range map[string]string{
		"/mcp": "/mcp", "/mcp?session_id=abc&a=b%20c": "/mcp?session_id=abc&a=b%20c", "/mcp?x=%zz_": "/mcp?x=%zz_",
		"/mcp?access_token=a&b=c": "/mcp?access_token=REDACTED&b=c", "/access_token=a": "/access_token=a",
	} {
		if got, found := DefaultFormat.ConcealURI(uri); got != want || found != (got != uri) {
			t.Errorf("%s becomes %s, %v", uri, got, found)
		}
	}
	if n := testing.AllocsPerRun(100, func() { DefaultFormat.ConcealURI("/mcp?sessionId=abc_def") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
