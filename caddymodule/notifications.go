package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// methodDeny replaces the amount of notifications that are not forwarded.
const methodDeny = "deny"

// ofNotification reports whether the method is a notification's. It costs nothing,
// and its rule lets it pass or not.
func (m *Method) ofNotification() bool { return mcp.IsNotification(m.Method) }

// compileNotifications compiles the rules for notifications.
func compileNotifications(methods []Method) (*gate.Notifications, error) {
	var rules []gate.NotificationRule
	for _, m := range methods {
		switch {
		case !m.ofNotification():
		case m.Amount != methodDeny && m.Amount != unpricedFree:
			return nil, fmt.Errorf("method %q: notifications have no answer to pay for: want deny or free", m.Method)
		default:
			rules = append(rules, gate.NotificationRule{Pattern: m.Method, Deny: m.Amount == methodDeny})
		}
	}
	return gate.NewNotifications(rules)
}

// parseNotification checks the last method, a notification's, together with the
// rules before it, so that an error names its line.
func (h *Handler) parseNotification(d *caddyfile.Dispenser) error {
	if _, err := compileNotifications(h.Methods); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
