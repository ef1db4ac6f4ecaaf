package gate

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// ItemOf returns the item that a request asks for.
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

// Entry returns the price book's entry for the item that a message asks for, as it is
// in the labels of metrics. For an item without an entry, it returns pricing.Other. For
// a message that asks for no tool, prompt or resource, it returns the entry of the
// message's method, or "" if the method has no entry.
func (g *Gate) Entry(m *mcp.Message) string {
	if m.Kind != mcp.KindRequest {
		return ""
	}
	if entry := g.EntryOf(m); entry != "" || ItemOf(m).Kind == items.Method {
		return entry
	}
	return pricing.Other
}

// Provider returns the id of the account that earns at the server.
func (g *Gate) Provider() string { return g.policy.Provider }

// appraise returns the item that a request or notification asks for, and whether the
// item may have a price. It returns a refusal if no caller may ask for the item. If
// known is false, the protocol does not have the method, which may then be called only
// if the price book names it.
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
		return item, true, g.checkName(item) // true even without a price, so that Quote can refuse a denied tool
	case item.Kind == items.Prompt && len(item.Name) > items.MaxName: // check the length here, before the name is matched against patterns
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

// checkNotification refuses notifications that the operator denies. It also refuses
// methods that are not named like notifications: a lax server could run such a
// method as a request, unpaid.
func (g *Gate) checkNotification(m *mcp.Message) *Refusal {
	if !mcp.IsNotification(m.Method) || g.policy.Notifications.denies(m.Method) {
		return &Refusal{Code: MethodUnknown, Reason: "method not found: " + m.Method}
	}
	return nil
}

// checkName refuses names that the ledger cannot store, and names that the server
// could mistake for others. Names come from the caller unchecked.
func (g *Gate) checkName(item items.Item) *Refusal {
	if err := items.CheckName(item); err != nil {
		return &Refusal{Code: ParamsInvalid, Reason: err.Error()}
	}
	return g.checkConfusable(item)
}

// checkConfusable refuses names that the server could mistake for the name of an
// item with another price or other scopes.
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

// confusable returns an error if the server could mistake the name for the name of an
// item with another price or other scopes.
func (g *Gate) confusable(item items.Item) error {
	if pattern, yes := g.policy.Prices.Confusable(item); yes {
		return fmt.Errorf("a server that ignores case, Unicode normalization or white space could mistake it for one priced by %q: name it exactly in a price of its own", pattern)
	}
	if pattern, yes := g.policy.Rights.confusable(item); yes {
		return fmt.Errorf("a server that ignores case, Unicode normalization or white space could mistake it for one with the scopes of %q: name it exactly in a scope of its own", pattern)
	}
	return nil
}

// argumentsOf returns the arguments that a price expression sees.
func argumentsOf(item items.Item, m *mcp.Message) []byte {
	if item.Kind == items.Resource || item.Kind == items.Method {
		return nil // resources and methods have no arguments
	}
	return m.Arguments
}
