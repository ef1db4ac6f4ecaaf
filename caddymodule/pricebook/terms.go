// Package pricebook has the part of a site's config that says how much calls cost, and
// which ends of a call are charged. It reads this part from JSON and from a Caddyfile,
// and translates it for packages pricing and gate.
package pricebook

import (
	"encoding/json"
	"slices"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Terms has the prices of a site. The parsers of the subdirectives check a Caddyfile
// line by line, when they read it. Compile checks everything again, because a
// config in JSON has not passed the parsers.
type Terms struct {
	// The prices of calls. An exact name wins over patterns, and the first
	// matching pattern wins over later ones.
	Prices []Price `json:"prices,omitempty"`

	// Rules for methods: request methods outside the protocol that may be called,
	// prices of requests without a name or URI, and notifications that are not
	// forwarded.
	Methods []Method `json:"methods,omitempty"`

	// The rule for tools without a price: `deny`, `free`, or an amount. Prompts and
	// resources without a price are free. Default: `deny`.
	Unpriced string `json:"unpriced,omitempty"`

	// The charged ends of a paid call, unless the price of the call has its own list.
	// The ends are `success` (a result), `tool_error` (a result with `isError`),
	// `abandoned` (an answer with a charged end that comes after the client has left)
	// and `started` (every end: the call is charged before it is forwarded). Default:
	// `success`.
	ChargeOn []string `json:"charge_on,omitempty"`

	// A CEL expression over `result` and `tool` that decides whether a tool's result
	// is charged: `!has(result.structuredContent.error)`. It is evaluated only for
	// ends that `charge_on` has. A price may have its own expression. If the
	// expression cannot judge a result, the result is charged. Default: none.
	ChargeIf string `json:"charge_if,omitempty"`
}

// Deny and Free are the words that may stand in place of an amount.
const (
	Deny = "deny"
	Free = "free"
)

// FillDefaults replaces missing values with their defaults.
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

// SameAs reports whether two sites charge the same for everything. It ignores the
// positions of prices in the Caddyfile.
func (t *Terms) SameAs(other *Terms) bool { return t.text() == other.text() }

// text encodes the terms, without the positions of prices, as text, so that two Terms
// can be compared.
func (t Terms) text() string {
	t.Prices = slices.Clone(t.Prices)
	for i := range t.Prices {
		t.Prices[i].Source = ""
	}
	text, _ := json.Marshal(t) // cannot fail, because plain structs always encode
	return string(text)
}

// Subdirectives returns the parsers of the subdirectives that set the terms.
func (t *Terms) Subdirectives() grammar.Subdirectives {
	return grammar.Subdirectives{
		"price": t.parsePrice, "free": t.parseFree, "method": t.parseMethod,
		"unpriced": t.parseUnpriced, "charge_on": t.parseChargeOn, "charge_if": t.parseChargeIf,
	}
}

// Repeatable has the subdirectives of Terms that may appear more than once.
var Repeatable = []string{"price", "free", "method"}
