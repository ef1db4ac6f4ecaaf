package gate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// NotificationRule decides whether the gateway forwards a client's notifications
// that belong to a protocol extension.
type NotificationRule struct {
	// Pattern is the name of a notification. A pattern that ends with '*' matches all
	// names that begin with the text before the '*'.
	Pattern string
	Deny    bool
}

// Notifications decides which notifications from clients are forwarded. Notifications
// are free and run no tool, so notifications of protocol extensions pass unless a rule
// denies them. A nil *Notifications denies no notification.
type Notifications struct {
	exact    map[string]bool // whether a notification with this exact name is denied
	prefixes []NotificationRule
}

// NewNotifications compiles the rules. An exact name wins over a prefix, and the first
// matching prefix wins over later ones. It is an error if a rule can never match, or if
// it names one of the protocol's own notifications.
func NewNotifications(rules []NotificationRule) (*Notifications, error) {
	n := &Notifications{exact: make(map[string]bool)}
	for _, r := range rules {
		if err := n.add(r); err != nil {
			return nil, fmt.Errorf("method %q: %w", r.Pattern, err)
		}
	}
	return n, nil
}

func (n *Notifications) add(r NotificationRule) error {
	prefix, many := strings.CutSuffix(r.Pattern, "*")
	if err := mcp.CheckNotificationRule(prefix, many); err != nil {
		return err
	}
	for _, before := range n.prefixes {
		if many && strings.HasPrefix(prefix, before.Pattern) {
			return fmt.Errorf("it can never match: %q, which stands before it, takes all that it would", before.Pattern+"*")
		}
	}
	if _, twice := n.exact[prefix]; twice && !many {
		return errors.New("it is named twice")
	}
	if many {
		n.prefixes = append(n.prefixes, NotificationRule{prefix, r.Deny})
	} else {
		n.exact[prefix] = r.Deny
	}
	return nil
}

// denies reports whether the notification must not be forwarded.
func (n *Notifications) denies(method string) bool {
	if n == nil {
		return false
	}
	if deny, ok := n.exact[method]; ok {
		return deny
	}
	for _, r := range n.prefixes {
		if strings.HasPrefix(method, r.Pattern) {
			return r.Deny
		}
	}
	return false
}
