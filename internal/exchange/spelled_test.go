package exchange

import (
	"strings"
	"testing"
)

// TestSpelled checks that all spellings of a name have one form, that names beyond ASCII
// have the form of their lower case, and that usual names need no memory.
func TestSpelled(t *testing.T) {
	for _, name := range []string{"", "X-Farebox-Account", "x_farebox.ACCOUNT", "X-Farebox-\u212aey", "\u00c9_.", strings.Repeat("A_", 40), "\xff_A"} {
		want := identitySpelling.Replace(strings.ToLower(name))
		if got := spelled(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	names := []string{"Content-Type", "Mcp-Protocol-Version", "Authorization"}
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range names {
			var short [maxSpelled]byte
			if is := string(appendSpelled(short[:0], name)); isIdentity(is) || misspelled(name, is) {
				t.Error(name)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
