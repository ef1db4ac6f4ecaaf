package gate

import (
	"encoding/json"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// priceField is _meta["dev.farebox/price"] of a tool in a list.
type priceField struct {
	Amount   *ledger.Amount `json:"amount,omitempty"` // of one call; none if it depends on the arguments
	Max      *ledger.Amount `json:"max,omitempty"`    // then this is the most that one call costs
	Currency string         `json:"currency"`
}

// List returns how the answer to a list method is to be rewritten for the key:
// tools that it may not call are taken out, and each has its price put in; of
// tasks, only those of its account stay. ID
// and Era are for the caller to set.
func (g *Gate) List(key *keys.Key, list mcp.List) mcp.ListRewrite {
	r := mcp.ListRewrite{List: list, Judge: func(string) (bool, []mcp.Field) { return true, nil }}
	if list == mcp.ListTasks {
		r.PerCaller, r.Judge = true, g.judgeTask(key)
	}
	if list == mcp.ListTools {
		r.PerCaller = g.policy.Prices.Denies()
		r.Judge = g.judgeTool
	}
	return r
}

func (g *Gate) judgeTool(name string) (keep bool, fields []mcp.Field) {
	offer, ok := g.policy.Prices.Offer(name)
	if !ok || !mcp.ValidToolName(name) { // such a name cannot be called through here
		return false, nil
	}
	return true, []mcp.Field{{Name: "dev.farebox/price", Value: priceOf(offer, g.policy.Currency)}}
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
