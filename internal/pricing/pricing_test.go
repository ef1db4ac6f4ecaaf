package pricing

import (
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func compile(t *testing.T, fallback Default, rules ...Rule) *Book {
	t.Helper()
	b, err := Compile(rules, fallback)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestQuoteOrder checks that an exact name takes precedence over an earlier pattern, and
// an earlier pattern over a later one. A tool without a rule is denied.
func TestQuoteOrder(t *testing.T) {
	b := compile(t, Default{},
		Rule{Pattern: "search_*", Amount: 2000}, Rule{Pattern: "search_web", Amount: 5000}, Rule{Pattern: "*_web", Amount: 7000}, Rule{Pattern: "ping", Amount: 0}, Rule{Pattern: "v?/[a-c]*", Amount: 1})
	for _, c := range []struct {
		tool  string
		want  ledger.Amount
		entry string
		err   error
	}{
		{"search_web", 5000, "search_web", nil},
		{"search_files", 2000, "search_*", nil},
		{"crawl_web", 7000, "*_web", nil},
		{"ping", 0, "ping", nil},
		{"v1/abc", 1, "v?/[a-c]*", nil},
		{"v1/xyz", 0, Other, ErrUnpriced},
		{"search_a/b", 2000, "search_*", nil}, // a slash is not special
		{"Ping", 0, Other, ErrUnpriced},
		{"", 0, Other, ErrUnpriced},
	} {
		q, err := b.Quote(t.Context(), items.Item{Name: c.tool}, nil)
		if !errors.Is(err, c.err) || q.Amount != c.want || q.Entry != c.entry || err == nil && q.ChargeOn != Success {
			t.Errorf("Quote(%q) = %+v, %v; want %s by %q, %v", c.tool, q, err, c.want, c.entry, c.err)
		}
	}
}

// TestQuoteFallback checks that tools without a rule have the default price, and that
// their quotes have the Entry Other.
func TestQuoteFallback(t *testing.T) {
	for _, amount := range []ledger.Amount{0, 30_000} {
		q, err := compile(t, Default{Allow: true, Amount: amount}).Quote(t.Context(), items.Item{Name: "anything"}, nil)
		if err != nil || q != (Quote{amount, Other, Success, nil}) {
			t.Errorf("unpriced %s: got %+v, %v", amount, q, err)
		}
	}
}

// TestCompileRefuses checks that Compile refuses an invalid rule, with the rule's pattern
// in the error.
func TestCompileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		rules    []Rule
		fallback Default
		want     string
	}{
		"twice":            {[]Rule{{Pattern: "a", Amount: 1}, {Pattern: "a", Amount: 0}}, Default{}, `"a" is named twice`},
		"below zero":       {[]Rule{{Pattern: "a", Amount: -1}}, Default{}, `price of "a": it is below zero`},
		"no name":          {[]Rule{{Pattern: "", Amount: 1}}, Default{}, "want the name"},
		"bad glob":         {[]Rule{{Pattern: "a[", Amount: 1}}, Default{}, `"a[" cannot be read`},
		"fallback is less": {nil, Default{Allow: true, Amount: -1}, "unpriced tools is below zero"},
	} {
		if _, err := Compile(c.rules, c.fallback); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// TestQuoteDoesNotAllocate checks that a quote for an exact name, which every call needs,
// does not allocate.
func TestQuoteDoesNotAllocate(t *testing.T) {
	b := compile(t, Default{}, Rule{Pattern: "a", Amount: 1}, Rule{Pattern: "b*", Amount: 2}, Rule{Pattern: "c", CEL: "1", Max: 1})
	ctx, arguments := t.Context(), []byte(`{"text":"x"}`)
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Quote(ctx, items.Item{Name: "a"}, arguments) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
