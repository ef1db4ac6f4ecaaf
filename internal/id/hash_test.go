package id

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestHashIsFixed checks that the encoding has not changed, so that stored hashes stay
// valid. It also uses lists that do not fit into the buffer on the stack.
func TestHashIsFixed(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{[]string{"task", "weather", ""}, "912d68f676d782d7ca08af82367c4013a96977adc43b596298700d5900b79f41"},
		{[]string{strings.Repeat("x", 1000)}, "5191d3a4860b4dfc3915ab96963bf301ad854f7e4d4d20638a233398c68f0363"},
	} {
		if sum := Hash(c.parts...); hex.EncodeToString(sum[:]) != c.want {
			t.Errorf("%.40q: %x", c.parts, sum)
		}
	}
}

// TestHashSeparatesParts checks that two lists have different hashes even if their
// concatenated parts are equal.
func TestHashSeparatesParts(t *testing.T) {
	seen := map[[32]byte][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"\x00\x00\x00\x01a"}} {
		sum := Hash(parts...)
		if other, taken := seen[sum]; taken {
			t.Errorf("%q and %q have the same hash", parts, other)
		}
		seen[sum] = parts
	}
}

// TestHashDoesNotAllocate checks that Hash allocates no memory for lists of usual
// length, because each call of an agent uses Hash.
func TestHashDoesNotAllocate(t *testing.T) {
	account, handle := strings.Repeat("a", 41), strings.Repeat("h", 100)
	if n := testing.AllocsPerRun(100, func() { Hash("task", "weather", account, "live", handle) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
