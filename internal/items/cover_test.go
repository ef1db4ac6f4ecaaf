package items

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestCovered checks that Add refuses a pattern that an earlier pattern covers, for
// all kinds of wildcards. It also checks that Add accepts a pattern if it matches
// some name for which the earlier pattern does not match.
func TestCovered(t *testing.T) {
	for _, c := range []struct {
		kind         Kind
		before, then string
		covered      bool
	}{
		{Tool, "get_?", "get_[a-c]", true}, {Tool, "get_[a-z]", "get_[c-f]", true}, {Tool, "get_[a-c]", "get_[a-d]", false}, {Tool, "*", "?", true},
		{Tool, "?*", "a?*", true}, {Tool, "?*", "*a", true}, {Tool, "?*", "*", false}, {Tool, "[^b-a]", "?", true}, {Tool, "b*", "[b-a]", true}, {Tool, "a*b*", "a?b", true}, {Tool, "a*b", "a*b*", false}, {Tool, "[^a]*", "b*", true}, {Tool, "[^a]*", "[ab]*", false},
		{Tool, `\**`, `\*a*`, true}, {Tool, `\**`, "**", false}, {Tool, "*é*", "é?", true}, {Tool, "get_*", "get_*_x", true}, {Prompt, "*_x", "get_*", false},
		{Resource, "a://*", "a://b/*", true}, {Resource, "a://{x}/c", "a://b/*/c", true}, {Resource, "a://b/*", "a://*", false}, {Resource, "a?*", "a?b*", true},
	} {
		var table Table[bool]
		if err := table.Add(Item{c.kind, c.before}, true); err != nil {
			t.Fatal(err)
		}
		if err := table.Add(Item{c.kind, c.then}, true); (err != nil) != c.covered {
			t.Errorf("%q after %q: %v", c.then, c.before, err)
		}
	}
}

// TestCoversAgainstNames compares the function covers with a direct test, for random
// pairs of patterns. The direct test matches both patterns against all short names.
// If covers were wrong, Add could refuse a rule that some call would find.
func TestCoversAgainstNames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "?", "*", "[a-b]", "[^a]", "[bc]"}
	pattern := func() (p string) {
		for range 1 + random.IntN(4) {
			p += parts[random.IntN(len(parts))]
		}
		return p
	}
	names := []string{""}
	for first := 0; len(names) < 1365; first++ { // up to five characters
		for _, c := range []string{"a", "b", "c", "d"} {
			names = append(names, names[first]+c)
		}
	}
	covered := 0
	for range 3000 {
		outer, inner := pattern(), pattern()
		want := true
		for _, name := range names {
			want = want && (!matchGlob(inner, name) || matchGlob(outer, name))
		}
		if name, ok := exampleOf((&glob[bool]{pattern: inner}).steps(Tool)); !ok || !matchGlob(inner, name) {
			t.Errorf("%q does not match its example %q", inner, name)
		}
		got := covers((&glob[bool]{pattern: outer}).steps(Tool), (&glob[bool]{pattern: inner}).steps(Tool))
		if got && !want {
			t.Errorf("%q does not cover %q", outer, inner)
		}
		if want && !got {
			t.Errorf("%q covers %q", outer, inner)
		}
		if got {
			covered++
		}
	}
	if covered < 100 {
		t.Errorf("only %d pairs of patterns were covered", covered)
	}
}

// TestManyPatterns: a price book with many overlapping patterns is read in moments. The
// bound is far above the time that it takes, because only its growth matters.
func TestManyPatterns(t *testing.T) {
	var table Table[int]
	began := clock.Now()
	for i := range 3000 {
		if err := table.Add(Item{Tool, fmt.Sprintf("*a%d_*_b*", i)}, i); err != nil {
			t.Fatal(err)
		}
	}
	if took := clock.Since(began); took > 30*time.Second {
		t.Errorf("3000 patterns took %s", took)
	}
	if err := table.Add(Item{Tool, "*a7_*x*_b*"}, 0); err == nil {
		t.Error("a shadowed pattern is not found")
	}
}
