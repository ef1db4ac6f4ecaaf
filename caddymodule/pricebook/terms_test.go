package pricebook

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// TestPriceWarnings checks valid price books. If a price book has a probable mistake,
// the test expects one warning in the log, with the line and advice. If a price book is
// plausible, the test expects no warning.
func TestPriceWarnings(t *testing.T) {
	for block, want := range map[string][]string{
		``:                                    {"no tool of this server can be called", "at=Testfile:1", "unpriced free"},
		`unpriced deny`:                       {"no tool of this server can be called"},
		`price prompt:essay 0.01`:             {"no tool of this server can be called"},
		"price a 1\n\tfree b, c":              {"ends with a comma", "at=Testfile:5", "price=b,"},
		`price " a" 1`:                        {"ends with a space", "at=Testfile:4"},
		`price 'a' 1`:                         {"quotation mark", "at=Testfile:4"},
		"price a 1\n\tprice resource:D://* 1": {"not in normal form", "at=Testfile:5", "RFC 3986"},

		`unpriced free`:                          nil,
		`unpriced 0.01`:                          nil,
		`price "two words" 1`:                    nil,
		`price "it's" 1`:                         nil,
		`price ns:tool 1`:                        nil,
		"price a 1\n\tfree resource:D://*":       nil,
		"price a 1\n\tprice resource:docs://* 1": nil,
	} {
		var terms Terms
		d := caddyfile.NewTestDispenser("farebox {\n\n\n\t" + block + "\n}")
		d.Next()
		source := grammar.Place(d)
		if err := grammar.Block(d, "farebox", terms.Subdirectives(), Repeatable...); err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		var log bytes.Buffer
		terms.FillDefaults()
		book, _, err := terms.Compile()
		if err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		terms.Warn(slog.New(slog.NewTextHandler(&log, nil)), "weather", source, book)
		if got := strings.Count(log.String(), "\n"); got != min(len(want), 1) {
			t.Errorf("%s: %d warnings:\n%s", block, got, &log)
		}
		for _, part := range want {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: no %q in:\n%s", block, part, &log)
			}
		}
	}
}

// TestChargeOnIsInherited checks that a price's own charge_on wins over the handler's,
// which applies to all other items.
func TestChargeOnIsInherited(t *testing.T) {
	prices := []Price{{Tool: "plain", Amount: "1"}, {Tool: "own", Amount: "1", ChargeOn: []string{"started"}}, {Tool: "cel", CEL: "1", Max: "1"}}
	for _, c := range []struct {
		chargeOn []string
		want     map[string]pricing.ChargeOn
	}{
		{nil, map[string]pricing.ChargeOn{
			"plain": pricing.Success, "own": pricing.Started, "cel": pricing.Success, "other": pricing.Success,
		}},
		{[]string{"success", "tool_error"}, map[string]pricing.ChargeOn{
			"plain": pricing.Success | pricing.ToolError, "own": pricing.Started,
			"cel": pricing.Success | pricing.ToolError, "other": pricing.Success | pricing.ToolError,
		}},
	} {
		book, _, err := (&Terms{Prices: prices, Unpriced: "0.5", ChargeOn: c.chargeOn}).Compile()
		if err != nil {
			t.Fatal(err)
		}
		for tool, want := range c.want {
			if q, err := book.Quote(t.Context(), items.Item{Name: tool}, nil); err != nil || q.ChargeOn != want {
				t.Errorf("%v: %s is charged on %s (%v), want %s", c.chargeOn, tool, q.ChargeOn, err, want)
			}
		}
	}
}
