package pricebook

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Method is a rule for one method. It admits a request method outside the protocol,
// sets the price of a request method of the protocol, or admits or denies a
// notification.
type Method struct {
	// The name of a request method, such as `vendor/thing`, or of a notification
	// outside the protocol, such as `notifications/vendor/thing`. A notification's
	// name with `*` at its end covers all names with that beginning. Some methods
	// are not allowed: those that are priced by name or URI (`tools/call`,
	// `prompts/get`, `resources/read`), lists, tasks, and methods that open a
	// connection or keep it up.
	Method string `json:"method"`

	// The price of one request: `free`, or a decimal with at most six places. For a
	// notification: `deny`, or `free`, which exempts it from a rule that denies the
	// beginning of its name. Notifications without a rule pass.
	Amount string `json:"amount"`
}

// rule translates the method for package pricing. Its argument is the handler's
// charge_on: the charged ends of calls.
func (m *Method) rule(on pricing.ChargeOn) (pricing.Rule, error) {
	r := pricing.Rule{Pattern: items.Item{Kind: items.Method, Name: m.Method}.String(), ChargeOn: on}
	if err := mcp.CheckMethodRule(m.Method); err != nil {
		return r, fmt.Errorf("method %q: %w", m.Method, err)
	}
	if m.Amount == Free {
		return r, nil
	}
	if m.Amount == Deny {
		return r, fmt.Errorf("method %q: requests that the protocol does not have are refused unless a rule lets them pass; deny is for notifications", m.Method)
	}
	var err error
	if r.Amount, err = ledger.ParseAmount(m.Amount); err != nil {
		return r, fmt.Errorf("method %q: want free or an amount: %w", m.Method, err)
	}
	return r, nil
}

func (t *Terms) parseMethod(d *caddyfile.Dispenser) error {
	var m Method
	if !d.Args(&m.Method, &m.Amount) || d.NextArg() {
		return d.Err("method: want a method and free or an amount, as in: method vendor/thing 0.01")
	}
	if m.ofNotification() {
		t.Methods = append(t.Methods, m)
		return t.parseNotification(d)
	}
	if _, err := m.rule(0); err != nil {
		return d.WrapErr(err)
	}
	if m.Amount != Free {
		if err := checkAmount(d, m.Amount); err != nil {
			return err
		}
	}
	t.Methods = append(t.Methods, m)
	return nil
}

// checkItem checks text, the name in a line that begins with "price" or "free". It
// returns an error at the current line if the name is invalid. It also returns an error
// if the name can never match, because the names in earlier lines match everything that
// this name would match.
func (t *Terms) checkItem(d *caddyfile.Dispenser, text string) error {
	item, err := items.Parse(text)
	switch {
	case err != nil:
		return d.WrapErr(err)
	case item.Kind == items.Method:
		return d.Errf("%q: write methods as in: method %s 0.01", text, item.Name)
	}
	var before items.Table[struct{}]
	for _, p := range t.Prices {
		if other, err := items.Parse(p.Tool); err == nil && other.Kind == item.Kind {
			_ = before.Add(other, struct{}{}) // ignore the error, because it was reported when the line of p was read
		}
	}
	if err := before.Add(item, struct{}{}); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// ofNotification reports whether the rule is for a notification. Notifications cost
// nothing, so their rules only admit or deny them.
func (m *Method) ofNotification() bool { return mcp.IsNotification(m.Method) }

// compileNotifications compiles the rules for notifications.
func compileNotifications(methods []Method) (*gate.Notifications, error) {
	var rules []gate.NotificationRule
	for _, m := range methods {
		switch {
		case !m.ofNotification():
		case m.Amount != Deny && m.Amount != Free:
			return nil, fmt.Errorf("method %q: notifications have no answer to pay for: want deny or free", m.Method)
		default:
			rules = append(rules, gate.NotificationRule{Pattern: m.Method, Deny: m.Amount == Deny})
		}
	}
	return gate.NewNotifications(rules)
}

// parseNotification checks the rule that was read last, which is for a notification,
// together with the rules before it. So an error names the line of that rule.
func (t *Terms) parseNotification(d *caddyfile.Dispenser) error {
	if _, err := compileNotifications(t.Methods); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
