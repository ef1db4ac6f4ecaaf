package gate

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// itemOf returns what a request asks for.
func itemOf(m *mcp.Message) items.Item {
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
		item = itemOf(m)
	}
	switch {
	case known && m.Kind != mcp.KindRequest:
		return item, false, nil
	case known && item.Kind == items.Tool:
		return item, true, nil // its quote tells: an unpriced one may be denied
	}
	offer, named := g.policy.Prices.Offer(item)
	switch {
	case !known && (!named || item.Kind != items.Method):
		return item, false, &Refusal{Code: MethodUnknown, Reason: "method not found: " + m.Method}
	case item.Kind == items.Resource && g.policy.Prices.Ambiguous(item.Name):
		return item, false, &Refusal{Code: ParamsInvalid,
			Reason: "the uri must be written in its normal form (RFC 3986, 6.2.2), without a fragment: prices are found by it"}
	}
	return item, named && !offer.Free(), nil
}

// maxItemName bounds the name of what is charged, in bytes: charges, receipts
// and event ids carry it.
const maxItemName = 1024

// checkName refuses names that cannot stand in the books: those of prompts and
// resources are whatever a caller writes.
func checkName(item items.Item) *Refusal {
	if len(item.Name) > maxItemName {
		return &Refusal{Code: ParamsInvalid, Reason: fmt.Sprintf("a %s that has a price must have a name or URI of at most %d bytes", item.Kind, maxItemName)}
	}
	for _, r := range item.Name {
		if r == utf8.RuneError || !unicode.IsPrint(r) { // operators read it in a terminal
			return &Refusal{Code: ParamsInvalid, Reason: fmt.Sprintf("a %s that has a price must have a name or URI of printable characters", item.Kind)}
		}
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
