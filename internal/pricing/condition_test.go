package pricing

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
)

func conditionOf(t *testing.T, expression string) *Condition {
	t.Helper()
	book, err := Compile([]Rule{{Pattern: "t", Amount: 1, ChargeIf: expression}}, Default{})
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	quote, err := book.Quote(context.Background(), items.Item{Name: "t"}, nil)
	if err != nil || quote.ChargeIf == nil || book.Condition(quote.Entry) != quote.ChargeIf {
		t.Fatalf("%s: quote %+v, %v", expression, quote, err)
	}
	return quote.ChargeIf
}

// TestConditions checks that a condition is evaluated for the unmodified result, and
// that an error does not quote the result.
func TestConditions(t *testing.T) {
	const failed = `{"content":[{"type":"text","text":"Error: secret"}],"structuredContent":{"ok":false,"code":404,"share":0.5},"isError":false,"_meta":{"own":1}}`
	for expression, want := range map[string]string{
		"result.structuredContent.ok":                                "false",
		"!result.content[0].text.startsWith('Error')":                "false",
		"result.structuredContent.code < 400":                        "false",
		"result.structuredContent.share < 1.0":                       "true",
		"!has(result.structuredContent.error)":                       "true",
		"result.?structuredContent.?state.orValue('done') == 'done'": "true",
		"result.content.all(c, c.type != 'image')":                   "true",
		"result._meta.own == 1 && tool == 't' && !result.isError":    "true",
		"true":                           "true",
		"result.structuredContent.none":  "it names a member that is not there",
		"result.content[1].text == 'a'":  "index out of bounds",
		"result.structuredContent.code":  "gave int, not bool",
		"result.isError == (1 / 0 == 1)": "division by zero",
		"result.content.size() < 'a'.size() + result.structuredContent.code + result.content[0].text": "no such overload",
	} {
		holds, err := conditionOf(t, expression).Holds(context.Background(), "t", []byte(failed))
		got := fmt.Sprint(holds)
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && (!strings.Contains(got, want) || holds) || strings.Contains(got, "secret") {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}

// TestConditionsThatCannotBe checks that an invalid condition is refused when it is
// compiled, with the position of the error.
func TestConditionsThatCannotBe(t *testing.T) {
	for expression, want := range map[string]string{
		"result.":                            "Syntax error",
		"results.content":                    "<input>:1:1",
		"args.text == 'a'":                   "undeclared reference to 'args'",
		"size(result)":                       "gives int: it has to give bool",
		"'yes'":                              "gives string",
		"result.text.matches('(')":           "invalid matches argument",
		strings.Repeat("!", 5000) + "result": "size exceeds limit",
	} {
		for _, compile := range []func() (*Book, error){
			func() (*Book, error) {
				return Compile([]Rule{{Pattern: "t", Amount: 1, ChargeIf: expression}}, Default{})
			},
			func() (*Book, error) { return Compile(nil, Default{ChargeIf: expression}) },
		} {
			if _, err := compile(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "charge_if: ") {
				t.Errorf("%.40s: %v, want %s", expression, err, want)
			}
		}
	}
	if _, err := Compile([]Rule{{Pattern: "t", ChargeOn: Started, ChargeIf: "true"}}, Default{}); err == nil {
		t.Error("a result is judged that is charged before it is there")
	}
}

// TestConditionsAreBounded checks that the work of a condition and the size of the result
// are bounded.
func TestConditionsAreBounded(t *testing.T) {
	numbers := `{"content":[` + strings.Repeat("1,", 2_000) + "1]}"
	for _, c := range []struct{ expression, result, want string }{
		{"result.content.all(a, result.content.all(b, b == a))", numbers, ""}, // stopped by maxCost, or on a busy machine by maxTime
		{"result.text != ''", `{"text":"` + strings.Repeat("x", maxResult) + `"}`, errLongResult.Error()},
		{"result.content != []", `{"content":[` + strings.Repeat("1,", maxValues) + "1]}", errTooMany.Error()},
		{"result.a", `{"a":true,"a":false}`, errTwice.Error()},
	} {
		if holds, err := conditionOf(t, c.expression).Holds(context.Background(), "t", []byte(c.result)); err == nil || holds || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.expression, holds, err)
		}
	}
}

// TestConditionOfEntry checks that a resumed call gets the condition of the rule that
// set its price, even if another rule applies to the tool by now.
func TestConditionOfEntry(t *testing.T) {
	book, err := Compile([]Rule{
		{Pattern: "own", Amount: 1, ChargeIf: "tool == 'own'"}, {Pattern: "none", Amount: 1}, {Pattern: "prompt:p", Amount: 1},
	}, Default{Allow: true, Amount: 1, ChargeIf: "tool == 'other'"})
	if err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]string{"own": "own", "none": "", Other: "other", "gone": "other", "prompt:p": "", "prompt:gone": "", "method:x/y": ""} {
		condition := book.Condition(entry)
		if condition == nil && want == "" {
			continue
		}
		if condition == nil || want == "" {
			t.Errorf("%s: %v", entry, condition)
			continue
		}
		if holds, err := condition.Holds(context.Background(), want, []byte("{}")); err != nil || !holds {
			t.Errorf("%s has the condition of another", entry)
		}
	}
}

func BenchmarkCondition(b *testing.B) {
	book, err := Compile(nil, Default{ChargeIf: "!has(result.structuredContent.error) && !result.content[0].text.startsWith('Error')"})
	if err != nil {
		b.Fatal(err)
	}
	result := []byte(`{"content":[{"type":"text","text":"` + strings.Repeat("rain, ", 300) + `"}],"structuredContent":{"city":"Oslo","days":[{"high":3,"low":-4},{"high":1,"low":-6}]}}`)
	b.ReportAllocs()
	for b.Loop() {
		if holds, err := book.otherIf.Holds(b.Context(), "t", result); err != nil || !holds {
			b.Fatal(holds, err)
		}
	}
}
