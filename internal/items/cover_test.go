package items

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestCovered checks that Add refuses a pattern that an earlier pattern covers, for all
// kinds of wildcards. It also checks that Add accepts a pattern that matches some name
// that the earlier pattern does not match.
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

// TestCoversAgainstNames compares covers(outer, inner) with a direct test, for random
// pairs of patterns. The direct test matches both patterns against all short names. If
// covers(outer, inner) were true by mistake, Add would refuse a rule that some calls
// need.
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
	// Make all names of up to five characters: 1 + 4 + 16 + 64 + 256 + 1024 names.
	for first := 0; len(names) < 1365; first++ {
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

// TestManyPatterns checks that the time to compile a price book grows at most with the
// square of the number of overlapping patterns, because each is compared with all
// others. The bound leaves room for a machine that is busy with other work.
func TestManyPatterns(t *testing.T) {
	var table Table[int]
	add := func(from, to int) time.Duration {
		began := clock.Now()
		for i := from; i < to; i++ {
			if err := table.Add(Item{Tool, fmt.Sprintf("*a%d_*_b*", i)}, i); err != nil {
				t.Fatal(err)
			}
		}
		return clock.Since(began)
	}
	few := add(0, 1000)
	if all, most := few+add(1000, 3000), 4*9*few+10*time.Second; all > most {
		t.Errorf("3000 patterns took %s, 1000 of them %s", all, few)
	}
	if err := table.Add(Item{Tool, "*a7_*x*_b*"}, 0); err == nil {
		t.Error("a shadowed pattern is not found")
	}
}
