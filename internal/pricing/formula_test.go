package pricing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// byExpression returns a book with one tool, "t", which is priced by the expression.
func byExpression(t *testing.T, expression string, most ledger.Amount) *Book {
	t.Helper()
	return compile(t, Default{}, Rule{Pattern: "t", CEL: expression, Max: most})
}

// TestExpressionPrices checks that an expression can read the arguments and the
// tool's name, that the expression's value is the price in micro-units, and that
// integers stay exact.
func TestExpressionPrices(t *testing.T) {
	const most = math.MaxInt64
	for _, c := range []struct {
		expression, arguments string
		want                  ledger.Amount
	}{
		{`size(args.text) * 2`, `{"text":"hello"}`, 10},
		{`size(args.text) * 2`, `{"text":"h\u00e9\ud83d\ude00"}`, 6}, // size counts characters, not bytes
		{`size(args)`, ``, 0},   // no arguments are an empty map, and a call with the price 0 is free
		{`size(args)`, `{}`, 0}, // empty arguments are like no arguments
		{`has(args.n) ? 7 : 3`, ``, 3},
		{`tool == "t" ? 5 : 9`, ``, 5},
		{`args.n`, `{"n":9007199254740993}`, 9007199254740993}, // 2^53+1, which a double cannot represent
		{`args.n`, `{"n":9223372036854775807}`, math.MaxInt64},
		{`args.n + 1`, `{"n":-1}`, 0},
		{`args.n - args.m`, `{"n":9007199254740993,"m":9007199254740992}`, 1},
		{`args.n * 2`, `{"n":21}`, 42},
		{`int(args.x * 100.0)`, `{"x":1.5}`, 150},
		{`int(args.x)`, `{"x":1e3}`, 1000},
		{`args.x > 9000000000000000000 ? 1 : 2`, `{"x":92233720368547758070}`, 1}, // a number beyond int64 becomes a double
		{`uint(args.n)`, `{"n":12}`, 12},
		{`size(args.a.filter(i, i.kind == "big")) * 1000 + size(args.a)`, `{"a":[{"kind":"big"},{"kind":"small"},{"kind":"big"}]}`, 2003},
		{`args.none == null && args.yes ? 1 : 2`, `{"none":null,"yes":true}`, 1},
		{`args["odd name"]`, `{"odd name":4}`, 4},
	} {
		var raw []byte
		if c.arguments != "" {
			raw = []byte(c.arguments)
		}
		q, err := byExpression(t, c.expression, most).Quote(t.Context(), items.Item{Name: "t"}, raw)
		if err != nil || q != (Quote{c.want, "t", Success, nil}) {
			t.Errorf("%s of %s = %+v, %v; want %d", c.expression, c.arguments, q, err, c.want)
		}
	}
}

// TestExpressionRefuses checks that a call is refused if its expression yields no
// acceptable price. Such a call must not be free. The reason does not quote the
// arguments.
func TestExpressionRefuses(t *testing.T) {
	const tooMuch, notComputed, below, above, whole = "too much work", "cannot be computed", "below zero", "above the most that it may be, 0.001", "whole number"
	list := `{"a":[` + strings.Repeat(`"secret",`, 3000) + `0]}`
	for _, c := range []struct{ expression, arguments, want string }{
		{`size(args.text)`, ``, notComputed},
		{`size(args.text)`, `{"text":7}`, notComputed},
		{`args.n * 2`, `{"n":1.5}`, notComputed},
		{`args.n * 2`, `{"n":"secret"}`, notComputed},
		{`args.n * 2`, `{"n":9223372036854775807}`, notComputed},
		{`1000 / args.n`, `{"n":0}`, notComputed},
		{`int(args.s)`, `{"s":"secret"}`, notComputed},
		{`int(args.x)`, `{"x":1e300}`, notComputed},
		{`{"a": 1}[args.s]`, `{"s":"secret"}`, notComputed},
		{`args.n`, `{"n":-1}`, below},
		{`args.n`, `{"n":-9223372036854775808}`, below},
		{`args.n`, `{"n":1001}`, above},
		{`args.n`, `{"n":9223372036854775807}`, above},
		{`uint(args.n)`, `{"n":1001}`, above},
		{`uint(args.s)`, `{"s":"18446744073709551615"}`, above},
		{`args.n`, `{"n":2.0}`, whole},
		{`args.n`, `{"n":1e2}`, whole},
		{`args.n`, `{"n":"secret"}`, whole},
		{`args.n`, `{"n":null}`, whole},
		{`args.n`, `{"n":true}`, whole},
		{`args.n`, `{"n":[1]}`, whole},
		{`args.n`, `{"n":92233720368547758070}`, whole},
		{`args.a.all(x, args.a.all(y, x != y || true)) ? 1 : 2`, list, tooMuch},
		{`size(args)`, `{"n":1e400}`, "out of range"},
		{`size(args)`, `{"a":1,"a":2}`, "a name twice"},
		{`size(args)`, `{"a":[1,`, "not a JSON object"},
		{`size(args)`, `[1]`, "not a JSON object"},
		{`size(args)`, `{"a":[` + strings.Repeat("0,", maxValues) + `0]}`, "more than 100000 values"},
		{`"x".matches(args.p) ? 1 : 2`, `{"p":"(secret){200}"}`, notComputed},
	} {
		name := c.expression + " of " + c.arguments[:min(len(c.arguments), 60)]
		var raw []byte
		if c.arguments != "" {
			raw = []byte(c.arguments)
		}
		q, err := byExpression(t, c.expression, 1000).Quote(t.Context(), items.Item{Name: "t"}, raw)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.want) {
			t.Errorf("%s: got %+v, %v, want a refusal with %q", name, q, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "secret") || q != (Quote{Entry: "t"}) {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
}

// TestExpressionIsBoundedInCost checks that maxCost stops work that CEL counts, long
// before maxTime.
func TestExpressionIsBoundedInCost(t *testing.T) {
	b := byExpression(t, `args.text.contains("a") || args.text.contains("b") ? 1 : 2`, 10)
	arguments := `{"text":"` + strings.Repeat("x", 4<<20) + `"}`
	if _, err := b.Quote(t.Context(), items.Item{Name: "t"}, []byte(arguments)); !errors.Is(err, errCost) {
		t.Errorf("got %v", err)
	}
}

// TestExpressionIsBoundedInTime checks that maxTime stops steps that take more time
// than CEL counts, such as a comparison of nested lists.
func TestExpressionIsBoundedInTime(t *testing.T) {
	nested := "[" + strings.Repeat("[0,0,0,0,0,0,0,0,0],", 4000) + "0]"
	arguments := `{"a":` + nested + `,"b":` + nested + `,"n":[` + strings.Repeat("0,", 9999) + `0]}`
	b := byExpression(t, `args.n.all(x, args.a == args.b) ? 1 : 2`, 1000)
	began := clock.Now()
	_, err := b.Quote(t.Context(), items.Item{Name: "t"}, []byte(arguments))
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "too much work") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := clock.Since(began); took > 20*time.Second { // without maxTime, the evaluation would take minutes
		t.Errorf("took %v", took)
	}
}

// TestExpressionMayReadTheWholeBody checks that an expression may search through a
// text that is as long as the default max_body allows.
func TestExpressionMayReadTheWholeBody(t *testing.T) {
	b := byExpression(t, `args.text.contains("needle") ? 2 : 1`, 10)
	arguments := `{"text":"` + strings.Repeat("x", 4<<20-100) + `"}`
	if q, err := b.Quote(t.Context(), items.Item{Name: "t"}, []byte(arguments)); err != nil || q.Amount != 1 {
		t.Errorf("got %+v, %v", q, err)
	}
}

// TestCompileRefusesExpressions checks that Compile refuses an expression that cannot
// yield an int. The error has the tool's name. If the expression yields another type,
// the error has an example, too. An expression without a static type compiles, and its
// value is checked when it is evaluated.
func TestCompileRefusesExpressions(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{CEL: `size(args.text) * 0.5`, Max: 1}, "found no matching overload"},
		{Rule{CEL: `args.x * 2.0`, Max: 1}, "gives double: write micro-units as int, as in size(args.text) * 2"},
		{Rule{CEL: `0.01`, Max: 1}, "gives double"},
		{Rule{CEL: `"1"`, Max: 1}, "gives string"},
		{Rule{CEL: `args`, Max: 1}, "gives map"},
		{Rule{CEL: `null`, Max: 1}, "gives null"},
		{Rule{CEL: `has(args.x)`, Max: 1}, "gives bool"},
		{Rule{CEL: `true ? 1 : 2.0`, Max: 1}, "cannot be read"},
		{Rule{CEL: `args.`, Max: 1}, "cannot be read"},
		{Rule{CEL: `argz.x`, Max: 1}, "undeclared reference to 'argz'"},
		{Rule{CEL: `"a".matches("(") ? 1 : 2`, Max: 1}, "cannot be read"},
		{Rule{CEL: strings.Repeat("1 + ", 2000) + "1", Max: 1}, "cannot be read"},
		{Rule{CEL: `1`}, "needs a max above zero"},
		{Rule{CEL: `1`, Max: -1}, "needs a max above zero"},
		{Rule{CEL: `1`, Max: 1, Amount: 1}, "not both"},
		{Rule{Amount: 1, Max: 1}, "max belongs to a price by expression"},
		{Rule{Amount: 1, ChargeOn: Abandoned}, "abandoned alone charges nothing"},
		{Rule{Amount: 1, ChargeOn: 128}, "not a set of outcomes"},
	} {
		c.rule.Pattern = "translate"
		_, err := Compile([]Rule{c.rule}, Default{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), `price of "translate": `) {
			t.Errorf("%+v: got %v, want an error with %q", c.rule, err, c.want)
		}
	}
	if _, err := Compile(nil, Default{ChargeOn: Abandoned}); err == nil {
		t.Error("a default that charges nothing was taken")
	}
}

// TestExpressionByGlob checks that a rule with a pattern may have an expression, and that
// the quote's Entry is still the pattern.
func TestExpressionByGlob(t *testing.T) {
	b := compile(t, Default{}, Rule{Pattern: "v?_*", CEL: `tool.startsWith("v1") ? 1 : 2`, Max: 2, ChargeOn: Started})
	for tool, want := range map[string]ledger.Amount{"v1_a": 1, "v2_a": 2} {
		if q, err := b.Quote(t.Context(), items.Item{Name: tool}, nil); err != nil || q != (Quote{want, "v?_*", Started, nil}) {
			t.Errorf("%s: %+v, %v", tool, q, err)
		}
	}
}

// TestExpressionsAreConcurrent checks that a book may be used concurrently with different
// arguments.
func TestExpressionsAreConcurrent(t *testing.T) {
	b := byExpression(t, `args.a.map(x, x * 2)[1] + size(args.text)`, 1_000_000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				arguments := fmt.Sprintf(`{"a":[0,%d],"text":"%s"}`, n, strings.Repeat("x", i))
				if q, err := b.Quote(context.Background(), items.Item{Name: "t"}, []byte(arguments)); err != nil || q.Amount != ledger.Amount(2*n+i) {
					t.Errorf("%s: %+v, %v", arguments, q, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzExpression checks that no arguments make an expression panic or yield a price below
// zero or above the maximum.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,2.5,"x",null],"n":9007199254740993}`, `{"n":-0}`, `{"n":1e400}`, `{"a":{"b":{}}}`, `[`} {
		f.Add([]byte(seed))
	}
	b, err := Compile([]Rule{{Pattern: "t", CEL: `has(args.n) ? args.n : size(args.a) * 3`, Max: 500}}, Default{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, arguments []byte) {
		q, err := b.Quote(context.Background(), items.Item{Name: "t"}, arguments)
		var refused *RefusedError
		if err != nil && !errors.As(err, &refused) || q.Amount < 0 || q.Amount > 500 {
			t.Errorf("%q: %+v, %v", arguments, q, err)
		}
	})
}

func BenchmarkExpression(b *testing.B) {
	book, err := Compile([]Rule{{Pattern: "t", CEL: `size(args.text) * 2`, Max: 100_000}}, Default{})
	if err != nil {
		b.Fatal(err)
	}
	arguments := []byte(`{"text":"` + strings.Repeat("x", 1000) + `","to":"no"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := book.Quote(b.Context(), items.Item{Name: "t"}, arguments); err != nil {
			b.Fatal(err)
		}
	}
}
