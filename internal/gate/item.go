package gate

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// ItemOf returns what a request asks for.
func ItemOf(m *mcp.Message) items.Item {
	switch m.Method {
	case "tools/call":
		return items.Item{Kind: items.Tool, Name: m.Name}
	case "prompts/get":
		return items.Item{Kind: items.Prompt, Name: m.Name}
	case "resources/read":
		return items.Item{Kind: items.Resource, Name: m.URI}
	}
	return items.Item{Kind: items.Method, Name: m.Method}
}

// appraise tells of a request or a notification what it asks for, and whether
// that may cost something, or why it must not be asked for at all. Methods that
// the protocol does not have, which are not known, may be called if the price
// book names them.
func (g *Gate) appraise(known bool, m *mcp.Message) (item items.Item, costs bool, refusal *Refusal) {
	if m.Kind == mcp.KindRequest {
		item = ItemOf(m)
	}
	switch {
	case known && m.Kind != mcp.KindRequest:
		return item, false, nil
	case !known && m.Kind == mcp.KindNotification:
		return items.Item{Kind: items.Method, Name: m.Method}, false, g.checkNotification(m)
	case known && item.Kind == items.Tool:
		return item, true, g.checkName(item) // its quote tells: an unpriced one may be denied
	case item.Kind == items.Prompt && len(item.Name) > items.MaxName: // before any pattern has to read it
		return item, true, g.checkName(item)
	}
	offer, named := g.policy.Prices.Offer(item)
	switch {
	case !known && (!named || item.Kind != items.Method):
		return item, false, &Refusal{Code: MethodUnknown, Reason: "method not found: " + m.Method}
	case item.Kind == items.Resource && g.policy.Prices.Ambiguous(item.Name):
		return item, false, &Refusal{Code: ParamsInvalid,
			Reason: "the uri must be written in its normal form (RFC 3986, 6.2.2), without a fragment: prices are found by it"}
	}
	if costs = named && !offer.Free(); costs {
		return item, true, g.checkName(item)
	}
	return item, false, g.checkConfusable(item)
}

// checkNotification refuses what the operator denies, and what is not named like
// a notification: a lax server could run a request for it, which nobody pays.
func (g *Gate) checkNotification(m *mcp.Message) *Refusal {
	if !mcp.IsNotification(m.Method) || g.policy.Notifications.denies(m.Method) {
		return &Refusal{Code: MethodUnknown, Reason: "method not found: " + m.Method}
	}
	return nil
}

// checkName refuses names that cannot stand in the books, and those that the
// server could take for others: callers write what they like.
func (g *Gate) checkName(item items.Item) *Refusal {
	if err := items.CheckName(item); err != nil {
		return &Refusal{Code: ParamsInvalid, Reason: err.Error()}
	}
	return g.checkConfusable(item)
}

// checkConfusable refuses names that the server could take for one that has
// another price, or needs other scopes.
func (g *Gate) checkConfusable(item items.Item) *Refusal {
	err := g.confusable(item)
	if err == nil {
		return nil
	}
	if item.Kind == items.Tool {
		return &Refusal{Code: ToolUnknown, Tool: item.String(), Cause: err}
	}
	return &Refusal{Code: ParamsInvalid, Tool: item.String(), Cause: err, Reason: fmt.Sprintf("unknown %s: %q", item.Kind, item.Name)}
}

// confusable returns why a name may be taken for another that has another price,
// or needs other scopes; nil if it cannot.
func (g *Gate) confusable(item items.Item) error {
	if pattern, yes := g.policy.Prices.Confusable(item); yes {
		return fmt.Errorf("a server that does not tell case, Unicode's forms or white space apart could take it for one that is priced by %q: name it exactly in a price of its own", pattern)
	}
	if pattern, yes := g.policy.Rights.confusable(item); yes {
		return fmt.Errorf("a server that does not tell case, Unicode's forms or white space apart could take it for one whose scopes are those of %q: name it exactly in a scope of its own", pattern)
	}
	return nil
}

// argumentsOf returns what an expression sees of the request.
func argumentsOf(item items.Item, m *mcp.Message) []byte {
	if item.Kind == items.Resource || item.Kind == items.Method {
		return nil // they have none
	}
	return m.Arguments
}
