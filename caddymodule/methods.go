package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Method lets a request method pass that the protocol does not have, or puts a
// price on one that it has.
type Method struct {
	// The name of the method, such as `vendor/thing`. Not allowed are methods that
	// are priced by name or URI (`tools/call`, `prompts/get`, `resources/read`),
	// lists, tasks, and methods that open and keep up a connection. Or the name of a
	// notification outside the protocol, such as `notifications/vendor/thing`; with
	// `*` at its end, the beginning of many.
	Method string `json:"method"`

	// The amount of one request: `free`, or a decimal with at most six places.
	// Notifications pass unless a rule has `deny`; `free` lets one pass although
	// the beginning of its name is denied.
	Amount string `json:"amount"`
}

// rule returns the method as package pricing knows it.
func (m *Method) rule(on pricing.ChargeOn) (pricing.Rule, error) {
	r := pricing.Rule{Pattern: items.Item{Kind: items.Method, Name: m.Method}.String(), ChargeOn: on}
	if err := mcp.CheckMethodRule(m.Method); err != nil {
		return r, fmt.Errorf("method %q: %w", m.Method, err)
	}
	if m.Amount == unpricedFree {
		return r, nil
	}
	if m.Amount == methodDeny {
		return r, fmt.Errorf("method %q: requests that the protocol does not have are refused unless a rule lets them pass; deny is for notifications", m.Method)
	}
	var err error
	if r.Amount, err = ledger.ParseAmount(m.Amount); err != nil {
		return r, fmt.Errorf("method %q: want free or an amount: %w", m.Method, err)
	}
	return r, nil
}

func (h *Handler) parseMethod(d *caddyfile.Dispenser) error {
	var m Method
	if !d.Args(&m.Method, &m.Amount) || d.NextArg() {
		return d.Err("method: want a method and free or an amount, as in: method vendor/thing 0.01")
	}
	if m.ofNotification() {
		h.Methods = append(h.Methods, m)
		return h.parseNotification(d)
	}
	if _, err := m.rule(0); err != nil {
		return d.WrapErr(err)
	}
	if m.Amount != unpricedFree {
		if err := checkAmount(d, m.Amount); err != nil {
			return err
		}
	}
	h.Methods = append(h.Methods, m)
	return nil
}

// checkItem refuses names that price and free do not take, at their line: also
// those that can never match because of the ones before them.
func (h *Handler) checkItem(d *caddyfile.Dispenser, text string) error {
	item, err := items.Parse(text)
	switch {
	case err != nil:
		return d.WrapErr(err)
	case item.Kind == items.Method:
		return d.Errf("%q: write methods as in: method %s 0.01", text, item.Name)
	}
	var before items.Table[struct{}]
	for _, p := range h.Prices {
		if other, err := items.Parse(p.Tool); err == nil && other.Kind == item.Kind {
			_ = before.Add(other, struct{}{}) // it was checked at its own line
		}
	}
	if err := before.Add(item, struct{}{}); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// knowsMethod reports whether a rule of the config names the message's method,
// so that metrics may name it, too.
func (h *Handler) knowsMethod(m *mcp.Message) bool {
	_, named := h.book.Offer(items.Item{Kind: items.Method, Name: m.Method})
	return named && m.Kind == mcp.KindRequest
}
