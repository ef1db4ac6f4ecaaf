package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// priceField is _meta["dev.farebox/price"] of an item in a list.
type priceField struct {
	Amount   *ledger.Amount `json:"amount,omitempty"` // of one call; none if it depends on the arguments
	Max      *ledger.Amount `json:"max,omitempty"`    // then this is the most that one call costs
	Currency string         `json:"currency"`
}

// List returns how the answer to a list method is to be rewritten for the key:
// what it may not use is taken out, and each tool has its price put in, as has
// what a price names of the other lists; of tasks, only those of its account
// stay. ID and Era are for the caller to set.
func (g *Gate) List(key *keys.Key, list mcp.List) mcp.ListRewrite {
	r := mcp.ListRewrite{List: list}
	perCaller := !g.policy.Rights.allOf(key)
	switch list {
	case mcp.ListTasks:
		r.PerCaller, r.Judge = true, g.judgeTask(key)
	case mcp.ListTools:
		r.PerCaller = perCaller || g.policy.Prices.Denies()
		r.Judge = g.judge(key, items.Tool, g.policy.Prices.Offer)
		if g.policy.PriceNotes {
			r.Note = g.priceNote
		}
	case mcp.ListPrompts:
		r.PerCaller, r.Judge = perCaller, g.judge(key, items.Prompt, g.policy.Prices.Offer)
	case mcp.ListResources:
		r.PerCaller, r.Judge = perCaller, g.judge(key, items.Resource, g.policy.Prices.Offer)
	case mcp.ListResourceTemplates:
		r.PerCaller, r.Judge = perCaller, g.judge(key, items.Resource, g.TemplateOffer)
	}
	return r
}

// TemplateOffer returns what it costs to read any resource of a template; false if
// this cannot be told.
func (g *Gate) TemplateOffer(item items.Item) (pricing.Offer, bool) {
	return g.policy.Prices.OfferTemplate(item.Name)
}

// judge keeps what the key may use, with its price.
func (g *Gate) judge(key *keys.Key, kind items.Kind, offerOf func(items.Item) (pricing.Offer, bool)) func(string) (bool, []mcp.Field) {
	return func(name string) (keep bool, fields []mcp.Field) {
		item := items.Item{Kind: kind, Name: name}
		offer, ok := offerOf(item)
		if !g.mayUse(key, item) {
			return false, nil
		}
		if reason := g.Hidden(item, offer, ok); reason != nil {
			if reason != errDenied {
				g.leftOut(item, reason)
			}
			return false, nil
		}
		return true, g.priceFields(offer, ok)
	}
}

var errDenied = errors.New("no price names it, and unpriced denies what none names")

// Hidden returns why an item is in no list, whoever asks: it may not be called, or
// cannot be by its name. The offer is the price book's, if it has one.
func (g *Gate) Hidden(item items.Item, offer pricing.Offer, named bool) error {
	if item.Kind == items.Tool && !named {
		return errDenied
	}
	return g.uncallable(item, named && !offer.Free())
}

// Currency returns the currency of prices.
func (g *Gate) Currency() string { return g.policy.Currency }

// priceFields tells of an offer, and nothing where there is none.
func (g *Gate) priceFields(offer pricing.Offer, ok bool) []mcp.Field {
	if !ok {
		return nil
	}
	return []mcp.Field{{Name: "dev.farebox/price", Value: priceOf(offer, g.policy.Currency)}}
}

// priceNote tells of the price of a tool in words, for clients that show their
// models no _meta; "" if it costs nothing.
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
		panic(err) // amounts and a currency always encode
	}
	return value
}

// uncallable returns why an item of a list cannot be had through here, because
// of its name; nil if it can.
func (g *Gate) uncallable(item items.Item, costs bool) error {
	if item.Kind == items.Tool || costs {
		if err := items.CheckName(item); err != nil {
			return err
		}
	}
	return g.confusable(item)
}

// maxLeftOut bounds how many names are told of in the log, by each gate: lists
// are read often, and what is in them is the server's to say.
const maxLeftOut = 100

// leftOutNames has what was told of already.
type leftOutNames struct {
	mu   sync.Mutex
	told map[items.Item]struct{}
}

// first reports whether the item is to be told of: for the first time, and while
// there were not too many.
func (l *leftOutNames) first(item items.Item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, told := l.told[item]; told || len(l.told) >= maxLeftOut {
		return false
	}
	if l.told == nil {
		l.told = make(map[items.Item]struct{})
	}
	l.told[item] = struct{}{}
	return true
}

// leftOut tells the operator, once, of what is missing in the server's lists. The
// name is quoted, and cut: it is one that was refused.
func (g *Gate) leftOut(item items.Item, reason error) {
	const most = 2 * items.MaxToolName
	item.Name = item.Name[:min(len(item.Name), most)]
	if g.leftOutOf.first(item) {
		g.Logger.Warn("the server offers something that cannot be called by its name: it is left out of the list",
			"server", g.policy.Server, "kind", item.Kind.String(), "name", strconv.Quote(item.Name), "reason", reason)
	}
}
