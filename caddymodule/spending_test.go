package caddymodule

import (
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestCompileSpending checks that the spending limits in a JSON config are checked by
// the same rules as in a Caddyfile.
func TestCompileSpending(t *testing.T) {
	h := &Handler{Provider: "acme", Caps: &Caps{Call: "0.05", Month: "100"}, FreeQuota: "100/day", Fee: &Fee{Share: "2.5%", Account: "operator"}}
	if err := h.compileSpending(); err != nil {
		t.Fatal(err)
	}
	fee, err := h.Fee.compile(h.Provider)
	if h.caps != (ledger.Caps{Call: 50_000, Month: 100_000_000}) || h.freeCalls != 100 || err != nil || fee.Of(10_000) != 250 {
		t.Errorf("compiled to %+v, %d, %v, %v", h.caps, h.freeCalls, fee, err)
	}
	if err := new(Handler).compileSpending(); err != nil {
		t.Errorf("nothing to compile: %v", err)
	}
	for words, h := range map[string]*Handler{
		"cap for a day: 0 is not above zero":     {Caps: &Caps{Day: "0"}},
		"cap for a call: -1 is not above zero":   {Caps: &Caps{Call: "-1"}},
		"cap for a month":                        {Caps: &Caps{Month: "much"}},
		`free_quota "100": want a number`:        {FreeQuota: "100"},
		`free_quota "0/day"`:                     {FreeQuota: "0/day"},
		`free_quota "-1/day"`:                    {FreeQuota: "-1/day"},
		`free_quota "9999999999/day"`:            {FreeQuota: "9999999999/day"},
		`free_quota "5/month"`:                   {FreeQuota: "5/month"},
		`free_quota "5/day/day"`:                 {FreeQuota: "5/day/day"},
		`fee: "2.5" is not a share`:              {Fee: &Fee{Share: "2.5", Account: "operator"}},
		`fee: "100.1%" is not a share`:           {Fee: &Fee{Share: "100.1%", Account: "operator"}},
		`fee: account name "" is not allowed`:    {Fee: &Fee{Share: "1%"}},
		"fee: the account is the provider":       {Provider: "acme", Fee: &Fee{Share: "1%", Account: "acme"}},
		`fee: account name "@funding" is not`:    {Fee: &Fee{Share: "1%", Account: "@funding"}},
		`fee: account name "acct_1" is not allo`: {Fee: &Fee{Share: "1%", Account: "acct_1"}},
	} {
		if err := h.compileSpending(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v; want %q in it", err, words)
		}
	}
}

// TestSitesAgreeOnSpending checks that two sites of one server must agree on its
// spending limits, because a caller could otherwise choose the more generous site.
func TestSitesAgreeOnSpending(t *testing.T) {
	site := func(change func(*Handler)) *Handler {
		h := &Handler{Server: "weather", Provider: "acme", Caps: &Caps{Day: "20"}, FreeQuota: "5/day", Fee: &Fee{Share: "2.5%", Account: "operator"}}
		if change != nil {
			change(h)
		}
		if err := h.compileSpending(); err != nil {
			t.Fatal(err)
		}
		return h
	}
	if !site(nil).agrees(site(func(h *Handler) { h.Caps.Day = "20.00" })) {
		t.Error("two spellings of one cap disagree")
	}
	for name, change := range map[string]func(*Handler){
		"cap": func(h *Handler) { h.Caps.Day = "21" }, "no caps": func(h *Handler) { h.Caps = nil },
		"quota": func(h *Handler) { h.FreeQuota = "" }, "share": func(h *Handler) { h.Fee.Share = "3%" },
		"operator": func(h *Handler) { h.Fee.Account = "other" }, "no fee": func(h *Handler) { h.Fee = nil },
	} {
		if site(nil).agrees(site(change)) || site(change).agrees(site(nil)) {
			t.Errorf("sites that differ in %s agree", name)
		}
	}
}
