package offers

import (
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/caddymodule/pricebook"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/offer"
	"github.com/fareboxhq/farebox/internal/ops"
)

// AddPrices adds the prices of the config to d. With each price it adds the items of
// the last offer to which the price applies. seen is nil if the server was never asked.
func (s *Site) AddPrices(d *ops.ServerDetail, seen *offer.Seen) {
	known := s.known(seen)
	for _, p := range s.Terms.Prices {
		d.Prices = append(d.Prices, viewPrice(&p, known[p.Tool]))
		delete(known, p.Tool)
	}
	for _, m := range s.Terms.Methods {
		v := ops.PriceView{Pattern: m.Method, Kind: items.Method.String(), Items: []ops.KnownItem{}}
		if amount, err := ledger.ParseAmount(m.Amount); err == nil {
			v.Amount = &amount
		} else if m.Amount == pricebook.Free {
			v.Amount = new(ledger.Amount)
		}
		d.Prices = append(d.Prices, v)
	}
	for _, rest := range known {
		d.NoPrice = append(d.NoPrice, rest...)
	}
	slices.SortFunc(d.NoPrice, func(a, b ops.KnownItem) int { return strings.Compare(a.Tool, b.Tool) })
}

// viewPrice returns the view of a price. The config was compiled, so its texts are valid.
func viewPrice(p *pricebook.Price, matched []ops.KnownItem) ops.PriceView {
	v := ops.PriceView{
		Pattern: p.Tool, Kind: items.Tool.String(), Expression: p.CEL, ChargeOn: p.ChargeOn, ChargeIf: p.ChargeIf, Source: p.Source,
		Items: append([]ops.KnownItem{}, matched...),
	}
	if item, err := items.Parse(p.Tool); err == nil {
		v.Kind = item.Kind.String()
	}
	if amount, err := ledger.ParseAmount(p.Amount); err == nil {
		v.Amount = &amount
	}
	if most, err := ledger.ParseAmount(p.Max); err == nil {
		v.Max = &most
	}
	return v
}

// known returns the items of the last offer by the price that applies to them; "" stands
// for items without a price.
func (s *Site) known(seen *offer.Seen) map[string][]ops.KnownItem {
	byPrice := make(map[string][]ops.KnownItem)
	if seen == nil {
		return byPrice
	}
	for key := range seen.Digests {
		kind, name, _ := strings.Cut(key, ":")
		v := s.offered(offer.Item{Kind: kind, Name: name})
		item := ops.KnownItem{
			Kind: kind, Name: name, State: v.State, Reason: v.Reason,
			Tool: items.Item{Kind: itemKinds[kind], Name: name}.String(),
		}
		if at, changed := seen.Changed[key]; changed {
			item.ChangedAt = &at
		}
		byPrice[v.By] = append(byPrice[v.By], item)
	}
	for _, list := range byPrice {
		slices.SortFunc(list, func(a, b ops.KnownItem) int { return strings.Compare(a.Tool, b.Tool) })
	}
	return byPrice
}
