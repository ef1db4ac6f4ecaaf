// Package offers compares the items that a server offers with the prices of its site.
package offers

import (
	"cmp"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/caddymodule/pricebook"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/offer"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Site has the prices of a site of the config.
type Site struct {
	Name  string
	Terms *pricebook.Terms
	Book  *pricing.Book // compiled from Terms
	Gate  *gate.Gate
}

// itemKinds maps the kinds of offered items to the kinds of prices.
var itemKinds = map[string]items.Kind{offer.Tool: items.Tool, offer.Prompt: items.Prompt, offer.Resource: items.Resource, offer.Template: items.Resource}

// Compare compares the offer of the server with its price book and with its previous
// offer. The previous offer is nil at the first check.
func (s *Site) Compare(found *offer.Offer, before *offer.Seen) *ops.CheckView {
	view := &ops.CheckView{
		Server: s.Name, Name: found.Name, Version: found.Version, Path: found.Path,
		Items: []ops.OfferedView{}, Gone: []ops.GoneView{}, Prices: []ops.IdlePrice{},
		Currency: s.Gate.Currency(), Unpriced: s.Terms.Unpriced, CheckedAt: clock.Now().UTC(),
	}
	for _, item := range found.Items {
		v := s.offered(item)
		if before != nil {
			switch digest, known := before.Digests[item.Key()]; {
			case !known:
				v.Change = "new"
			case digest != item.Digest:
				v.Change = "changed"
			}
		}
		view.Items = append(view.Items, v)
	}
	if before != nil {
		view.Since = &before.At
		view.Gone = gone(found, before)
	}
	for _, p := range s.Terms.Prices {
		if state := s.idle(p.Tool, found); state != "" {
			view.Prices = append(view.Prices, ops.IdlePrice{Price: p.Tool, State: state, Source: p.Source})
		}
	}
	return view
}

// offered returns the view of an offered item: whether it is priced, free or hidden.
func (s *Site) offered(item offer.Item) ops.OfferedView {
	v := ops.OfferedView{Kind: item.Kind, Name: item.Name, State: ops.ItemFree}
	asked := items.Item{Kind: itemKinds[item.Kind], Name: item.Name}
	find := s.Book.Offer
	if item.Kind == offer.Template {
		find = s.Gate.TemplateOffer
	}
	price, named := find(asked)
	if named && !price.Free() {
		v.State, v.Price, v.Varies = ops.ItemPriced, &price.Amount, price.Varies
	}
	v.By = s.Book.EntryOf(asked, item.Kind == offer.Template)
	if err := s.Gate.Hidden(asked, price, named); err != nil {
		v.State, v.Reason, v.Price, v.Varies = ops.ItemHidden, err.Error(), nil, false
	}
	return v
}

func gone(found *offer.Offer, before *offer.Seen) []ops.GoneView {
	now := make(map[string]bool, len(found.Items))
	for _, item := range found.Items {
		now[item.Key()] = true
	}
	all := []ops.GoneView{}
	for key := range before.Digests {
		if !now[key] {
			kind, name, _ := strings.Cut(key, ":")
			all = append(all, ops.GoneView{Kind: kind, Name: name})
		}
	}
	slices.SortFunc(all, func(a, b ops.GoneView) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return all
}

// idle returns the reason why the price with the given pattern applies to no item of
// the offer. It returns "" if the price applies to an item. If the server offers
// resource templates, it returns "" for every price of a resource: it is unknown which
// URIs the templates can produce.
func (s *Site) idle(pattern string, found *offer.Offer) (state string) {
	price, err := items.Parse(pattern)
	var alone items.Table[bool]
	if err != nil || alone.Add(price, true) != nil {
		return "" // cannot happen: such a config is refused
	}
	state = ops.PriceUnknown
	for _, item := range found.Items {
		if itemKinds[item.Kind] != price.Kind {
			continue
		}
		if item.Kind == offer.Template {
			return ""
		}
		named := items.Item{Kind: price.Kind, Name: item.Name}
		if s.Book.EntryOf(named, false) == pattern {
			return ""
		}
		if _, matches := alone.Find(named); matches {
			state = ops.PriceShadowed
		}
	}
	return state
}
