// Package pricebook is the part of a site's config that says which calls cost how
// much and which ends of them are charged: its JSON, its grammar, and its
// translation for packages pricing and gate.
package pricebook

import (
	"encoding/json"
	"slices"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Terms are the prices of a site. Its parsers check each line as they read it;
// Compile checks all of it, for configs in JSON.
type Terms struct {
	// The prices of calls. An exact name wins over patterns, and the first
	// matching pattern wins over later ones.
	Prices []Price `json:"prices,omitempty"`

	// Methods outside the protocol that may be called, prices of requests without
	// a name or URI, and notifications that are not forwarded.
	Methods []Method `json:"methods,omitempty"`

	// The rule for tools without a price: `deny`, `free`, or an amount. Prompts and
	// resources without a price are free. Default: `deny`.
	Unpriced string `json:"unpriced,omitempty"`

	// Which ends of paid calls are charged, unless their price says otherwise:
	// `success` (a result), `tool_error` (a result with `isError`), `abandoned`
	// (a chargeable answer after the client has left), `started` (before the call
	// is forwarded, whatever its end).
	// Default: `success`.
	ChargeOn []string `json:"charge_on,omitempty"`

	// A CEL expression that decides whether the result of a tool's call is charged,
	// if `charge_on` has its end: `!has(result.structuredContent.error)`. It sees
	// `result` and `tool`. Prices may have their own. A result that it cannot judge
	// is charged. Default: none.
	ChargeIf string `json:"charge_if,omitempty"`
}

// The words for tools without a price.
const (
	Deny = "deny"
	Free = "free"
)

// FillDefaults replaces missing values by their defaults.
func (t *Terms) FillDefaults() {
	if t.Unpriced == "" {
		t.Unpriced = Deny
	}
}

// Compile checks the terms, and returns the prices and the rules for
// notifications.
func (t *Terms) Compile() (*pricing.Book, *gate.Notifications, error) {
	book, err := t.compileBook()
	if err != nil {
		return nil, nil, err
	}
	notifications, err := compileNotifications(t.Methods)
	return book, notifications, err
}

// SameAs reports whether two sites charge the same for everything. The places of
// the prices in the Caddyfile do not matter.
func (t *Terms) SameAs(other *Terms) bool { return t.text() == other.text() }

// text is the same for terms that differ in their places alone.
func (t Terms) text() string {
	t.Prices = slices.Clone(t.Prices)
	for i := range t.Prices {
		t.Prices[i].Source = ""
	}
	text, _ := json.Marshal(t) // plain structs always encode
	return string(text)
}

// Subdirectives are the parsers of the terms.
func (t *Terms) Subdirectives() grammar.Subdirectives {
	return grammar.Subdirectives{
		"price": t.parsePrice, "free": t.parseFree, "method": t.parseMethod,
		"unpriced": t.parseUnpriced, "charge_on": t.parseChargeOn, "charge_if": t.parseChargeIf,
	}
}

// Repeatable are the subdirectives that may stand more than once.
var Repeatable = []string{"price", "free", "method"}
