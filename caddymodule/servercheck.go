package caddymodule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/offer"
)

// CheckView is what a server offers beside its price book, as JSON shows it.
type CheckView struct {
	Server    string        `json:"server"`
	Name      string        `json:"name,omitempty"`    // that the server gives itself
	Version   string        `json:"version,omitempty"` // the same
	Path      string        `json:"path"`
	Since     *time.Time    `json:"since"` // when it was checked before; null for never
	Items     []OfferedView `json:"items"`
	Gone      []GoneView    `json:"gone"`   // what it offered then and does not now
	Prices    []IdlePrice   `json:"prices"` // those that nothing of the offer goes by
	Currency  string        `json:"currency"`
	Unpriced  string        `json:"unpriced"`
	CheckedAt time.Time     `json:"checked_at"`
}

// OfferedView is one thing that the server offers.
type OfferedView struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	State  string         `json:"state"` // priced, free or hidden
	Price  *ledger.Amount `json:"price,omitempty"`
	Varies bool           `json:"varies,omitempty"` // then price is the most that it costs
	By     string         `json:"by,omitempty"`     // the price that it goes by, as the config has it
	Reason string         `json:"reason,omitempty"` // why it is hidden
	Change string         `json:"change,omitempty"` // new or changed, since the last check
}

// GoneView names what is not offered any more.
type GoneView struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// IdlePrice is a price of the config by which nothing goes.
type IdlePrice struct {
	Price  string `json:"price"`
	State  string `json:"state"` // unknown: the server offers nothing of the name; shadowed: other prices take all that it would
	Source string `json:"source,omitempty"`
}

// The states of what is offered, and of prices.
const (
	statePriced   = "priced"
	stateFree     = "free"
	stateHidden   = "hidden"
	stateUnknown  = "unknown"
	stateShadowed = "shadowed"
)

// itemKinds are the kinds of what servers offer by those of prices.
var itemKinds = map[string]items.Kind{offer.Tool: items.Tool, offer.Prompt: items.Prompt, offer.Resource: items.Resource, offer.Template: items.Resource}

// compare puts what the server offers beside the price book, and beside what it
// offered before.
func (h *Handler) compare(found *offer.Offer, before *offer.Seen) *CheckView {
	view := &CheckView{
		Server: h.Server, Name: found.Name, Version: found.Version, Path: found.Path,
		Items: []OfferedView{}, Gone: []GoneView{}, Prices: []IdlePrice{},
		Currency: h.site.Gate.Currency(), Unpriced: h.Unpriced, CheckedAt: clock.Now().UTC(),
	}
	for _, item := range found.Items {
		v := h.offered(item)
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
	for _, p := range h.Prices {
		if state := h.idle(p.Tool, found); state != "" {
			view.Prices = append(view.Prices, IdlePrice{p.Tool, state, p.Source})
		}
	}
	return view
}

// offered says what becomes of an item.
func (h *Handler) offered(item offer.Item) OfferedView {
	v := OfferedView{Kind: item.Kind, Name: item.Name, State: stateFree}
	asked := items.Item{Kind: itemKinds[item.Kind], Name: item.Name}
	find := h.book.Offer
	if item.Kind == offer.Template {
		find = h.site.Gate.TemplateOffer
	}
	price, named := find(asked)
	if named && !price.Free() {
		v.State, v.Price, v.Varies = statePriced, &price.Amount, price.Varies
	}
	v.By = h.book.EntryOf(asked, item.Kind == offer.Template)
	if err := h.site.Gate.Hidden(asked, price, named); err != nil {
		v.State, v.Reason, v.Price, v.Varies = stateHidden, err.Error(), nil, false
	}
	return v
}

func gone(found *offer.Offer, before *offer.Seen) []GoneView {
	now := make(map[string]bool, len(found.Items))
	for _, item := range found.Items {
		now[item.Key()] = true
	}
	all := []GoneView{}
	for key := range before.Digests {
		if !now[key] {
			kind, name, _ := strings.Cut(key, ":")
			all = append(all, GoneView{kind, name})
		}
	}
	slices.SortFunc(all, func(a, b GoneView) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return all
}

// idle says why nothing that is offered goes by a price; "" if something does, or
// if this cannot be told, as of resources where a server has templates.
func (h *Handler) idle(pattern string, found *offer.Offer) (state string) {
	price, err := items.Parse(pattern)
	var alone items.Table[bool]
	if err != nil || alone.Add(price, true) != nil {
		return "" // no config has it
	}
	state = stateUnknown
	for _, item := range found.Items {
		if itemKinds[item.Kind] != price.Kind {
			continue
		}
		if item.Kind == offer.Template {
			return ""
		}
		named := items.Item{Kind: price.Kind, Name: item.Name}
		if h.book.EntryOf(named, false) == pattern {
			return ""
		}
		if _, matches := alone.Find(named); matches {
			state = stateShadowed
		}
	}
	return state
}

// told says of a price why nothing goes by it.
func (p *IdlePrice) told() string {
	if p.State == stateShadowed {
		return fmt.Sprintf("price %q%s is shadowed: others take all that it would of what the server offers", p.Price, at(p.Source))
	}
	return fmt.Sprintf("price %q%s is unknown: the server offers nothing of that name", p.Price, at(p.Source))
}
