package items

import (
	"path"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// TestItemsHaveNamesOfTheirOwn checks that different items have different strings, and
// that Parse turns each string back into its item, even for a tool with a confusing
// name.
func TestItemsHaveNamesOfTheirOwn(t *testing.T) {
	words := []string{
		"a", "日本", "a b", "ns:tool", "prompt:x", "tool:x", "tool:prompt:x", "method:m", "resource:docs://a", "Prompt:x", "prompts:x", "docs://a", "mail:", ":", "x:y:z", "tool:", "prompt:", "\x00",
	}
	seen := make(map[string]Item)
	for kind := Tool; kind < kinds; kind++ {
		for _, name := range words {
			item := Item{kind, name}
			text := item.String()
			if other, taken := seen[text]; taken {
				t.Errorf("%+v and %+v are both %q", item, other, text)
			}
			seen[text] = item
			if got, err := Parse(text); err != nil || got != item {
				t.Errorf("%+v: %q is read as %+v, %v", item, text, got, err)
			}
		}
	}
	for _, plain := range []string{"ns:tool", "日本", "a b", "x:y:z"} {
		if got, err := Parse(plain); err != nil || got != (Item{Tool, plain}) || got.String() != plain {
			t.Errorf("%q: %+v, %v", plain, got, err)
		}
	}
}

// TestCheckName checks that CheckName accepts readable names up to the bound, and refuses
// characters that a terminal or a log would interpret.
func TestCheckName(t *testing.T) {
	long := strings.Repeat("語", MaxToolName)
	for _, name := range []string{"a", "a b", "ns:tool", "日本", "naïve", "cafe\u0301", "क्\u200dष", "👩\u200d💻", "❤\ufe0f", "=1+1", `"`, `\`, "a\u00a0b", "\ue000", long} {
		for _, kind := range []Kind{Tool, Prompt} {
			if err := CheckName(Item{kind, name}); err != nil {
				t.Errorf("%s %q: %v", kind, name, err)
			}
		}
	}
	for _, name := range []string{"", "a\x00", "a\nb", "\t", "a\x7f", "a\u0085", "a\u2028b", "a\u202eb", "a\u2066b", "\ufeffa", "a\u200b", "a\u00ad", "\xff", "a\ufffdb", "\uffff", "\ufdd0", long + "x"} {
		if CheckName(Item{Tool, name}) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if CheckName(Item{Prompt, strings.Repeat("x", MaxName)}) != nil || CheckName(Item{Resource, strings.Repeat("x", MaxName+1)}) == nil {
		t.Error("the bound of other names is not kept")
	}
}

// TestFold checks that two names fold to the same text if a server may confuse them, and
// to different texts otherwise.
func TestFold(t *testing.T) {
	for _, alike := range [][]string{
		{"delete", "DELETE", "Delete", " delete", "delete ", "de lete", "dele\u200dte", "ｄｅｌｅｔｅ", "\ufeffdelete", "dele\u00adte"},
		{"café", "cafe\u0301", "CAFÉ", "CAFE\u0301"}, {"straße", "STRASSE", "strasse", "STRAẞE"}, {"kit", "KIT", "\u212ait", "kıt", "KİT"}, {"files", "ﬁles", "FILES", "fileſ"},
		{"σας", "ΣΑΣ", "σασ"}, {"a", "ª", "ⓐ"},
	} {
		for _, name := range alike {
			if got := Fold(name); got != alike[0] && got != Fold(alike[0]) {
				t.Errorf("%q folds to %q, not to %q", name, got, Fold(alike[0]))
			}
		}
	}
	for _, pair := range [][2]string{{"get-x", "get_x"}, {"a.b", "a/b"}, {"а", "a"}, {"café", "cafe"}, {"日本", "日木"}} {
		if Fold(pair[0]) == Fold(pair[1]) {
			t.Errorf("%q and %q fold to the same", pair[0], pair[1])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		folded := Fold(name)
		if Fold(folded) != folded {
			t.Fatalf("%q folds to %q, and that to %q", name, folded, Fold(folded))
		}
		for what, other := range map[string]string{"lower": strings.ToLower(name), "upper": strings.ToUpper(name), "NFC": norm.NFC.String(name), "NFKD": norm.NFKD.String(name), "trimmed": strings.TrimSpace(name)} {
			if Fold(other) != folded {
				t.Fatalf("%q folds to %q, but its %s form %q to %q", name, folded, what, other, Fold(other))
			}
		}
	})
}

// TestConfusable checks that a name is confusable if another spelling of the name finds
// another rule, for example one in another case. The other rule may have a name or a
// pattern. A name is not confusable if all its spellings find the same rule.
func TestConfusable(t *testing.T) {
	table := func(patterns ...string) *Table[int] {
		var table Table[int]
		for i, p := range patterns {
			item, err := Parse(p)
			if err == nil {
				err = table.Add(item, i)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return &table
	}
	for _, c := range []struct {
		table *Table[int]
		item  string
		with  string // pattern of the other rule; "" if the item must not be confusable
	}{
		{table("delete"), "Delete", "delete"}, {table("delete"), "delete", ""}, {table("delete"), "delete ", "delete"}, {table("delete"), "other", ""},
		{table("Delete"), "delete", "Delete"}, {table("Delete", "delete"), "delete", ""}, {table("Delete", "delete"), "DELETE", "delete"},
		{table("日本", "café"), "cafe\u0301", "café"}, {table("日本"), "日本語", ""},
		{table("search_*", "*"), "Search_x", "search_*"}, {table("search_*", "*"), "search_x", ""}, {table("search_*", "*"), "SEARCH_X", "search_*"}, {table("search_*", "*"), "Other", ""},
		{table("search_*"), "search_X", ""}, {table("search_*"), "Search_x", "search_*"}, {table("Search_*"), "search_x", "Search_*"},
		{table("get_?", "*"), "GET_a", "get_?"}, {table("get_?", "*"), "get_A", ""}, {table("get_?", "*"), "get_ab", ""}, {table("[a-c]x", "*"), "Bx", "[a-c]x"}, {table("[A-C]x", "*"), "bx", "[A-C]x"},
		{table("[^a]x", "*"), "ax", "[^a]x"}, {table("[0-9]x", "*"), "ax", ""}, {table(`a\*b`, "*"), "A*b", `a\*b`}, {table(`[\]]x`, "*"), "]X", `[\]]x`}, {table("a/*"), "A/b", "a/*"}, {table("a/*"), "A/b/c", "a/*"}, {table("a?b", "*"), "A/b", "a?b"},
		// Names with a combining accent. NFC composes the letter before the accent and
		// the accent to one letter, even if the letter is the last one of the pattern's
		// literal.
		{table("e*", "*"), "e\u0301lan", "e*"}, {table("e*"), "e\u0301lan", "e*"}, {table("e*", "*"), "élan", ""}, {table("e*", "*"), "elan\u0301", ""},
		{table("가*", "*"), "가\u11a8", "가*"}, {table("*\u0301x", "*"), "e\u0301x", "*\u0301x"}, {table("a?b", "*"), "a b", "a?b"},
		{table("*"), "anything At all", ""}, {table("prompt:p*"), "prompt:P", "p*"}, {table("prompt:p"), "P", ""}, {table("resource:docs://a"), "resource:DOCS://a", ""},
	} {
		item, err := Parse(c.item)
		if err != nil {
			t.Fatal(err)
		}
		if with, yes := c.table.Confusable(item); with != c.with || yes != (c.with != "") {
			t.Errorf("%s: %q, %v; want %q", c.item, with, yes, c.with)
		}
	}
}

// TestFoldedPatternsMatchMore checks that a folded pattern matches the folded form of
// every name that the pattern matches. Otherwise Confusable could miss that a name has
// another rule if it is written in another case.
func TestFoldedPatternsMatchMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.SampledFrom([]rune("aAbBkKxs/_")), 1, 6, -1).Draw(t, "name")
		var pattern strings.Builder // matches the name most of the time
		for _, r := range name {
			pattern.WriteString(rapid.SampledFrom([]string{string(r), string(r), `\` + string(r), "?", "*", "[" + string(r) + "]", "[^z]", "[A-z]", "*" + string(r)}).Draw(t, "piece"))
		}
		if ok, err := path.Match(pattern.String(), name); err != nil || !ok {
			return
		}
		if !foldedMatch(fold(cutGlob(pattern.String())), Fold(name)) {
			t.Fatalf("%q matches %q, but not when both are folded", pattern.String(), name)
		}
	})
}

// TestRulesThatNeverMatch checks that Add refuses a rule that matches no name, and a
// rule for names that all match earlier rules.
func TestRulesThatNeverMatch(t *testing.T) {
	for _, c := range []struct {
		first, second string
		want          string // text that the error must contain; "" if there must be no error
	}{
		{"*", "search_*", "takes all"}, {"search_*", "*", ""}, {"a*", "ab?c", "takes all"}, {"a*", "abc", ""}, {"*", "a/*", "takes all"}, {"*a*", "[ab]*", ""}, {"*/*", "a/*", "takes all"}, {"a?", "ab*", ""},
		{"a*", "a[b]", "takes all"}, {"a*b", "a*", ""}, {"resource:docs://*", "resource:docs://{a}/x", "takes all"}, {"resource:docs://{x}", "resource:docs://*", "takes all"}, {"resource:docs://*x*", "resource:docs://{x}", ""},
		{"resource:*", "prompt:*", ""}, {"prompt:*", "prompt:a*", "takes all"}, {"a", "a", "twice"}, {"a*", "a*", "twice"}, {"x", "a\n", "can never match"}, {"x", "a\n*", "can never match"},
		{"x", strings.Repeat("y", 300) + "*", "at most 256"}, {"x", "tool:" + strings.Repeat("y", 256), ""},
	} {
		var table Table[int]
		first, err := Parse(c.first)
		if err != nil || table.Add(first, 1) != nil {
			t.Fatal(c.first, err)
		}
		second, err := Parse(c.second)
		if err != nil {
			t.Fatal(err)
		}
		err = table.Add(second, 2)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s after %s: %v, want %q", c.second, c.first, err, c.want)
		}
	}
}

func BenchmarkConfusable(b *testing.B) {
	var table Table[int]
	for i, name := range []string{"get_forecast", "search_*", "translate", "*"} {
		if err := table.Add(Item{Name: name}, i); err != nil {
			b.Fatal(err)
		}
	}
	for name, item := range map[string]string{"exact": "get_forecast", "plain": "search_docs", "mixed case": "otherTool"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, yes := table.Confusable(Item{Name: item}); yes {
					b.Fatal("it is")
				}
			}
		})
	}
}
