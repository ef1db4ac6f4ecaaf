package gate

import (
	"encoding/json"

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
// tools that it may not call are taken out, and each has its price put in, as
// has what a price names of the other lists; of tasks, only those of its account
// stay. ID and Era are for the caller to set.
func (g *Gate) List(key *keys.Key, list mcp.List) mcp.ListRewrite {
	r := mcp.ListRewrite{List: list}
	switch list {
	case mcp.ListTasks:
		r.PerCaller, r.Judge = true, g.judgeTask(key)
	case mcp.ListTools:
		r.PerCaller = g.policy.Prices.Denies()
		r.Judge = g.judgeTool
	case mcp.ListPrompts:
		r.Judge = func(name string) (bool, []mcp.Field) {
			return true, g.priceFields(g.policy.Prices.Offer(items.Item{Kind: items.Prompt, Name: name}))
		}
	case mcp.ListResources:
		r.Judge = func(uri string) (bool, []mcp.Field) {
			return true, g.priceFields(g.policy.Prices.Offer(items.Item{Kind: items.Resource, Name: uri}))
		}
	case mcp.ListResourceTemplates:
		r.Judge = func(template string) (bool, []mcp.Field) {
			return true, g.priceFields(g.policy.Prices.OfferTemplate(template))
		}
	}
	return r
}

func (g *Gate) judgeTool(name string) (keep bool, fields []mcp.Field) {
	offer, ok := g.policy.Prices.Offer(items.Item{Name: name})
	if !ok || !mcp.ValidToolName(name) { // such a name cannot be called through here
		return false, nil
	}
	return true, g.priceFields(offer, ok)
}

// priceFields tells of an offer, and nothing where there is none.
func (g *Gate) priceFields(offer pricing.Offer, ok bool) []mcp.Field {
	if !ok {
		return nil
	}
	return []mcp.Field{{Name: "dev.farebox/price", Value: priceOf(offer, g.policy.Currency)}}
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
