package pricing

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
)

// TestFold checks that two names fold to the same text if the JSON decoder of a server
// may confuse them, and to different texts otherwise.
func TestFold(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"text", "Text", true}, {"text", "TEXT", true}, {"unit_price", "unitPrice", true}, {"unit-price", "unit_price", true}, {"_text", "text", true},
		{"key", "\u212aey", true}, {"size", "\u017fize", true}, {"id", "\u0130d", true}, {"id", "\u0131d", true}, {"id", "I\u0307d", true},
		{"caf\u00e9", "cafe\u0301", true}, {"CAF\u00c9", "cafe\u0301", true}, {"text", "\uff54ext", true}, {"file", "\ufb01le", true},
		{"text", "text\u200b", true}, {"text", "text\x00", true}, {"text", " text ", true}, {"\u03c3", "\u03c2", true}, {"\u00b5", "\u03bc", true},
		{"text", "test", false}, {"text", "texts", false}, {"a", "\u00e4", false}, {"text", "t\u0435xt", false}, {"stra\u00dfe", "strasse", false}, // \u0435 is a Cyrillic letter, and no JSON decoder folds ß to ss
	} {
		if (fold(c.a) == fold(c.b)) != c.same {
			t.Errorf("%q and %q fold to %q and %q", c.a, c.b, fold(c.a), fold(c.b))
		}
	}
}

// TestExpressionRefusesNamesThatFold checks promise 7 of docs/promises.md for prices by
// expression: if the price depends on a member's name, a server with a lax JSON decoder
// finds the same value under that name as the expression does. Otherwise the call must
// be refused. Members on which the price does not depend may have any names.
func TestExpressionRefusesNamesThatFold(t *testing.T) {
	const ok = ""
	near := func(name string) string { return fmt.Sprintf("take for %q", name) }
	const two = "two names in one object"
	for _, c := range []struct{ expression, arguments, want string }{
		{`size(args.text)`, `{"text":"a","Text":"aaaa"}`, near("text")},
		{`size(args.text)`, `{"text":"a","te\u0078T":"aaaa"}`, near("text")},
		{`has(args.text) ? size(args.text) : 1`, `{"Text":"aaaa"}`, near("text")},
		{`has(args.text) ? 1 : 2`, `{"TEXT":"aaaa"}`, near("text")},
		{`has(args.kind) ? 1 : 2`, `{"\u212aind":"aaaa"}`, near("kind")},
		{`has(args.max_tokens) ? 1 : 2`, `{"maxTokens":4000}`, near("max_tokens")},
		{`"text" in args ? 1 : 2`, `{"Text":1}`, near("text")},
		{`"text" in args ? 1 : 2`, `{"other":1,"Other":2}`, ok},
		{`args["a b"]`, `{"a b":1,"A B":2}`, near("a b")},
		{`size(args.text)`, `{"text":"a","other":1,"Other":2,"o":{"Text":1}}`, ok},
		{`size(args.text)`, `{"text":"a","texts":1,"test":1}`, ok},
		// Members at a deeper level.
		{`args.o.n`, `{"o":{"n":1,"N":2}}`, near("n")},
		{`args.o.n`, `{"o":{"n":1},"n":1,"N":2}`, ok},
		{`args.o.n`, `{"o":{"n":1,"p":{"N":1}}}`, ok},
		{`args["o"]["n"]`, `{"o":{"n":1,"N":2}}`, near("n")},
		{`args.l[0].n`, `{"l":[{"n":1},{"N":2}]}`, near("n")},
		{`size(args.l.filter(i, i.kind == "big"))`, `{"l":[{"kind":"small"},{"kind":"small","Kind":"big"}]}`, near("kind")},
		{`size(args.l.filter(i, i.kind == "big"))`, `{"l":[{"kind":"small","x":1,"X":{"Kind":1}}],"Kind":1}`, ok},
		{`size(args.l.map(i, i.n).filter(i, i > 2))`, `{"l":[{"n":1,"N":3}]}`, near("n")},
		{`args.l.filter(i, has(i.a))[0].b`, `{"l":[{"a":1,"b":1,"B":2}]}`, near("b")},
		{`args.l.exists(i, i.m.exists(j, j.n > 1)) ? 1 : 2`, `{"l":[{"m":[{"n":1,"N":2}]}]}`, near("n")},
		{`{"w": args.o}.w.n`, `{"o":{"n":1,"N":2}}`, near("n")},
		{`[args.o][0].n`, `{"o":{"n":1,"N":2}}`, near("n")},
		{`(args.c ? args.o : args.p).n`, `{"c":true,"o":{"n":1},"p":{"N":2}}`, near("n")},
		{`dyn(args.o).n`, `{"o":{"n":1,"N":2}}`, near("n")},
		{`args.l.map(args, args.n)[0]`, `{"l":[{"n":1,"N":2}]}`, near("n")},
		// Members that are read by a computed name, and values that are read as a whole.
		{`args[args.which]`, `{"which":"a","a":1,"A":2}`, two},
		{`args[args.which].n`, `{"which":"a","a":{"n":1,"N":2}}`, near("n")},
		{`args[args.which].n`, `{"which":"a","a":{"n":1},"b":{"x":1,"X":2}}`, ok},
		{`size(args)`, `{"a":1,"A":2}`, two},
		{`size(args.o)`, `{"o":{"a":1,"A":2}}`, two},
		{`size(args.o)`, `{"o":{"a":1},"b":1,"B":2}`, ok},
		{`args.o == {"n": 1} ? 1 : 2`, `{"o":{"n":1,"m":[{"x":1,"X":2}]}}`, two},
		{`args.o in [{"n": 1}] ? 1 : 2`, `{"o":{"n":1,"N":2}}`, two},
		{`args.exists(k, k == "text") ? 1 : 2`, `{"text":1,"Text":2}`, two},
		{`size(args.o.map(k, k))`, `{"o":{"a_b":1,"aB":2}}`, two},
		{`(has(args.n) ? args.n : 0) + (has(args.N) ? args.N : 0)`, `{"N":2}`, ok},
		{`(has(args.n) ? args.n : 0) + (has(args.N) ? args.N : 0)`, `{"n":1,"N":2}`, two},
		{`1`, `{"a":1,"A":2}`, ok},
		{`tool == "t" ? 1 : 2`, `{"a":1,"A":2}`, ok},
	} {
		_, err := byExpression(t, c.expression, 1_000_000).Quote(t.Context(), items.Item{Name: "t"}, []byte(c.arguments))
		var refused *RefusedError
		switch {
		case c.want == ok && err != nil:
			t.Errorf("%s of %s: %v", c.expression, c.arguments, err)
		case c.want != ok && (!errors.As(err, &refused) || !strings.Contains(refused.Reason, c.want)):
			t.Errorf("%s of %s: %v, want %s", c.expression, c.arguments, err, c.want)
		}
	}
}

// FuzzExpressionAgainstLaxReader checks promise 7 of docs/promises.md with a real lax
// decoder, encoding/json. It ignores case, and takes the last of several members with
// the same name. If encoding/json reads another value than the expression does, the
// call must not get a price.
func FuzzExpressionAgainstLaxReader(f *testing.F) {
	for _, seed := range []string{`{"text":"a","Text":"aaaa"}`, `{"Text":"aaaa"}`, `{"text":"a"}`, `{"te\u017ft":"b","text":"a"}`, `{"texT":null}`} {
		f.Add([]byte(seed))
	}
	book, err := Compile([]Rule{{Pattern: "t", CEL: `has(args.text) ? size(args.text) : 0`, Max: 1_000_000}}, Default{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, arguments []byte) {
		quote, err := book.Quote(t.Context(), items.Item{Name: "t"}, arguments)
		var lax struct{ Text string }
		if err != nil || json.Unmarshal(arguments, &lax) != nil {
			return
		}
		if n := len([]rune(lax.Text)); int64(quote.Amount) != int64(n) {
			t.Errorf("%s costs %d and a lax server sees %d characters", arguments, quote.Amount, n)
		}
	})
}

// BenchmarkExpressionNames measures the time for checking the names in arguments.
func BenchmarkExpressionNames(b *testing.B) {
	book, err := Compile([]Rule{{Pattern: "t", CEL: `size(args.text) * 2`, Max: 1_000_000}}, Default{})
	if err != nil {
		b.Fatal(err)
	}
	raw := []byte(`{"text":"hello","language":"en","max_tokens":100,"options":{"formal":true,"tone":"warm"}}`)
	named := shapeOf([]*place{{names: map[string]*place{"text": {}}}}, false)
	for name, s := range map[string]*shape{"unchecked": nil, "checked": named, "whole": everything} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := readArguments(raw, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("quote", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := book.Quote(b.Context(), items.Item{Name: "t"}, raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
