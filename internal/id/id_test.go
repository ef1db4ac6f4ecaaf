package id

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestNew checks that an id consists of the prefix and a UUIDv7 with the time of the
// process clock.
func TestNew(t *testing.T) {
	before := clock.Now().UnixMilli()
	text := New("chg_")
	after := clock.Now().UnixMilli()
	rest, ok := strings.CutPrefix(text, "chg_")
	u, err := uuid.Parse(rest)
	if !ok || err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
		t.Fatalf("%q is not a prefix and a UUIDv7: %v", text, err)
	}
	sec, nsec := u.Time().UnixTime()
	if at := time.Unix(sec, nsec).UnixMilli(); at < before || at > after {
		t.Errorf("made at %d, and says %d (to %d)", before, at, after)
	}
}

// TestOrder checks that ids differ and sort in the order in which they were made. Two
// ids made within 1/4096 of a millisecond may sort either way.
func TestOrder(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for range 10_000 {
		text := New("")
		if seen[text] {
			t.Fatalf("%s was made twice", text)
		}
		seen[text] = true
		if last != "" && text[:18] < last[:18] {
			t.Fatalf("%s comes after %s", text, last)
		}
		last = text
	}
}
