package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// priceField is _meta["dev.farebox/price"] of a listed item.
type priceField struct {
	Amount   *ledger.Amount `json:"amount,omitempty"` // price of one call; absent if the price depends on the arguments
	Max      *ledger.Amount `json:"max,omitempty"`    // the highest price of one call, in place of Amount, if the price depends on the call
	Currency string         `json:"currency"`
}

// List returns the rewriting of a list response for the caller. The rewriting drops
// items that the caller may not use and tasks of other accounts. It adds prices to
// every tool. In other lists it adds prices only to items that the price book names.
// The caller of List sets ID and Era.
func (g *Gate) List(caller *Caller, list mcp.List) mcp.ListRewrite {
	r := mcp.ListRewrite{List: list}
	perCaller := !g.policy.Rights.allOf(caller)
	switch list {
	case mcp.ListTasks:
		r.PerCaller, r.Judge = true, g.judgeTask(caller)
	case mcp.ListTools:
		r.PerCaller = perCaller || g.policy.Prices.Denies()
		r.Judge = g.judge(caller, items.Tool, g.policy.Prices.Offer)
		if g.policy.PriceNotes {
			r.Note = g.priceNote
		}
	case mcp.ListPrompts:
		r.PerCaller, r.Judge = perCaller, g.judge(caller, items.Prompt, g.policy.Prices.Offer)
	case mcp.ListResources:
		r.PerCaller, r.Judge = perCaller, g.judge(caller, items.Resource, g.policy.Prices.Offer)
	case mcp.ListResourceTemplates:
		r.PerCaller, r.Judge = perCaller, g.judge(caller, items.Resource, g.TemplateOffer)
	}
	return r
}

// TemplateOffer returns the price that all resources of a template have, or false
// if it cannot be determined.
func (g *Gate) TemplateOffer(item items.Item) (pricing.Offer, bool) {
	return g.policy.Prices.OfferTemplate(item.Name)
}

// judge returns a function that decides about a listed item: whether the item stays in
// the caller's list, and which fields add the item's price to it.
func (g *Gate) judge(caller *Caller, kind items.Kind, offerOf func(items.Item) (pricing.Offer, bool)) func(string) (bool, []mcp.Field) {
	return func(name string) (keep bool, fields []mcp.Field) {
		item := items.Item{Kind: kind, Name: name}
		offer, ok := offerOf(item)
		if !g.mayUse(caller, item) {
			return false, nil
		}
		if reason := g.Hidden(item, offer, ok); reason != nil {
			if !errors.Is(reason, errDenied) {
				g.leftOut(item, reason)
			}
			return false, nil
		}
		return true, g.priceFields(offer, ok)
	}
}

var errDenied = errors.New("no price names it, and unpriced denies such tools")

// Hidden returns the reason for leaving an item out of every caller's list: the item is
// denied, or the item cannot be called by its name. It returns nil for an item that
// stays. If named is true, the price book names the item, and offer is the item's
// price.
func (g *Gate) Hidden(item items.Item, offer pricing.Offer, named bool) error {
	if item.Kind == items.Tool && !named {
		return errDenied
	}
	return g.uncallable(item, named && !offer.Free())
}

// Currency returns the currency of prices.
func (g *Gate) Currency() string { return g.policy.Currency }

// priceFields returns the offer as a field for _meta, or nil if ok is false.
func (g *Gate) priceFields(offer pricing.Offer, ok bool) []mcp.Field {
	if !ok {
		return nil
	}
	return []mcp.Field{{Name: "dev.farebox/price", Value: priceOf(offer, g.policy.Currency)}}
}

// priceNote returns a tool's price in words, for clients that do not show _meta to
// their models. It returns "" for a free tool.
func (g *Gate) priceNote(name string) string {
	switch offer, ok := g.policy.Prices.Offer(items.Item{Kind: items.Tool, Name: name}); {
	case !ok || offer.Free():
		return ""
	case offer.Varies:
		return fmt.Sprintf("(at most %s %s a call)", offer.Amount, g.policy.Currency)
	default:
		return fmt.Sprintf("(%s %s a call)", offer.Amount, g.policy.Currency)
	}
}

func priceOf(o pricing.Offer, currency string) []byte {
	f := priceField{Currency: currency, Amount: &o.Amount}
	if o.Varies {
		f.Amount, f.Max = nil, &o.Amount
	}
	value, err := json.Marshal(f)
	if err != nil {
		panic(err) // cannot happen, because amounts and a currency always encode
	}
	return value
}

// uncallable returns the reason why the item cannot be called by its name through
// the gateway, or nil if it can.
func (g *Gate) uncallable(item items.Item, costs bool) error {
	if item.Kind == items.Tool || costs {
		if err := items.CheckName(item); err != nil {
			return err
		}
	}
	return g.confusable(item)
}

// maxLeftOut bounds the number of left-out names that each gate logs, because lists
// are fetched often and the server controls their contents.
const maxLeftOut = 100

// leftOutNames remembers the items that were logged as left out of lists.
type leftOutNames struct {
	mu     sync.Mutex
	logged map[items.Item]struct{}
}

// first reports whether to log the item. This is so if the item was not logged before,
// and fewer than maxLeftOut items were logged. If so, first remembers the item as
// logged.
func (l *leftOutNames) first(item items.Item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, logged := l.logged[item]; logged || len(l.logged) >= maxLeftOut {
		return false
	}
	if l.logged == nil {
		l.logged = make(map[items.Item]struct{})
	}
	l.logged[item] = struct{}{}
	return true
}

// leftOut logs, once, an item that the gateway leaves out of the server's lists. It
// quotes and truncates the name, which may be malicious.
func (g *Gate) leftOut(item items.Item, reason error) {
	const maxLogged = 2 * items.MaxToolName // in bytes
	item.Name = item.Name[:min(len(item.Name), maxLogged)]
	if g.leftOutOf.first(item) {
		g.deps.Logger.Warn("the server offers something that cannot be called by its name: it is left out of the list",
			"server", g.policy.Server, "kind", item.Kind.String(), "name", strconv.Quote(item.Name), "reason", reason)
	}
}
