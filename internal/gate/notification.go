package gate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// NotificationRule says of clients' notifications that the protocol does not
// have whether they are forwarded.
type NotificationRule struct {
	// Pattern is the name of a notification, or with '*' as its last character
	// the beginning of many.
	Pattern string
	Deny    bool
}

// Notifications says which notifications of clients are forwarded. They cost
// nothing and run no tool, so that those of extensions pass unless a rule denies
// them. The nil Notifications deny none.
type Notifications struct {
	exact    map[string]bool // whether it is denied
	prefixes []NotificationRule
}

// NewNotifications makes Notifications of the rules: a name wins over what it
// begins with, and of those the first wins. Rules that no notification can meet,
// and those for the protocol's own notifications, are errors.
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

// denies reports whether a notification is not forwarded.
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
