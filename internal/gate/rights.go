package gate

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// ScopeRule says which scopes a key needs, all of them, for the items that a
// pattern names. Patterns are those of items.Table.
type ScopeRule struct {
	Pattern string
	Scopes  []string
}

// Rights say which scopes a server asks for, and for what. They never change
// once they are made. The nil Rights ask for keys.ScopeConnect for everything.
type Rights struct {
	scopes  *keys.Catalogue
	rules   items.Table[[]string]
	require []string // for what no rule names
	plain   bool     // there are no rules and the requirement is the usual one
}

// usual is what a server asks for unless the operator says otherwise.
var usual = []string{keys.ScopeConnect}

// NewRights makes rights of the rules, in whose scopes the catalogue knows what
// includes what. What no rule names needs the required scopes; none stand for
// keys.ScopeConnect. A scope that is not declared is an error, with what is.
func NewRights(scopes *keys.Catalogue, rules []ScopeRule, require []string) (*Rights, error) {
	r := &Rights{scopes: scopes, require: slices.Clone(require)}
	if err := scopes.Check(require, true); err != nil {
		return nil, fmt.Errorf("require: %w", err)
	}
	if len(require) == 0 {
		r.require = usual
	}
	for _, rule := range rules {
		item, err := items.Parse(rule.Pattern)
		if err == nil && item.Kind == items.Method {
			err = mcp.CheckMethodRule(item.Name)
		}
		if err == nil {
			err = scopes.Check(rule.Scopes, true)
		}
		if err == nil && len(rule.Scopes) == 0 {
			err = fmt.Errorf("want the scopes that it needs")
		}
		if err == nil {
			err = r.rules.Add(item, slices.Clone(rule.Scopes))
		}
		if err != nil {
			return nil, fmt.Errorf("scope of %q: %w", rule.Pattern, err)
		}
	}
	r.plain = len(rules) == 0 && slices.Equal(r.require, usual)
	return r, nil
}

// Named returns the declared scopes that the rights ask for, each once, in
// alphabetical order.
func (r *Rights) Named() []string {
	if r == nil {
		return nil
	}
	all := slices.Clone(r.require)
	for scopes := range r.rules.Values() {
		all = append(all, scopes...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == keys.ScopeConnect })
}

// Required returns the declared scopes that are needed for what no rule names.
func (r *Rights) Required() []string {
	if r == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.require), func(s string) bool { return s == keys.ScopeConnect })
}

// of returns what the item needs.
func (r *Rights) of(item items.Item) []string {
	if r == nil {
		return usual
	}
	if scopes, ok := r.rules.Find(item); ok {
		return scopes
	}
	return r.require
}

// names reports whether a rule has the item's very name.
func (r *Rights) names(item items.Item) bool { return r != nil && r.rules.HasExactly(item) }

// confusable reports whether a server could take the item's name for one that
// needs other scopes; see items.Table.Confusable.
func (r *Rights) confusable(item items.Item) (pattern string, yes bool) {
	if r == nil {
		return "", false
	}
	return r.rules.Confusable(item)
}

// allow reports whether the key carries all of the scopes.
func (r *Rights) allow(k *keys.Key, scopes []string) bool {
	var catalogue *keys.Catalogue
	if r != nil {
		catalogue = r.scopes
	}
	for _, s := range scopes {
		if !catalogue.Allows(k, s) {
			return false
		}
	}
	return true
}

// Scopes returns all scopes that the key carries by name, and what they include.
func (g *Gate) Scopes(k *keys.Key) []string {
	var catalogue *keys.Catalogue
	if g.policy.Rights != nil {
		catalogue = g.policy.Rights.scopes
	}
	return catalogue.Expand(k)
}

// allOf reports whether the server lets the key use everything, and every key
// that is like it.
func (r *Rights) allOf(k *keys.Key) bool {
	return (r == nil || r.plain) && k.HasScope(keys.ScopeConnect)
}

// permit checks that the key carries the scopes for what a message asks for,
// and returns them. What opens and keeps up a connection needs none, nor do
// lists, which show what the key may use; tasks need those of their calls.
func (g *Gate) permit(key *keys.Key, item items.Item, known bool, m *mcp.Message) ([]string, *Refusal) {
	if g.policy.Rights.allOf(key) {
		return usual, nil
	}
	asked, err := asks(item, known, m)
	if err != nil {
		return nil, &Refusal{Code: ParamsInvalid, Cause: err, Reason: "it cannot be told with certainty what the params ask for"}
	}
	if item.Kind == items.Method && known && g.policy.Rights.names(item) {
		asked = append(asked, item)
	}
	var all []string
	for _, item := range asked {
		if item.Kind == items.Resource && g.policy.Rights.ambiguous(item.Name, m.Method == "completion/complete") {
			return nil, &Refusal{Code: ParamsInvalid,
				Reason: "the uri must be written in its normal form (RFC 3986, 6.2.2), without a fragment: what it needs is found by it"}
		}
		if pattern, yes := g.policy.Rights.confusable(item); yes {
			return nil, &Refusal{Code: ParamsInvalid, Tool: item.String(),
				Reason: fmt.Sprintf("unknown %s: %q", item.Kind, item.Name),
				Cause:  fmt.Errorf("a server could take it for one whose scopes are those of %q", pattern)}
		}
		needs := g.policy.Rights.of(item)
		if !g.policy.Rights.allow(key, needs) {
			return nil, g.lacks(key, item, needs)
		}
		all = append(all, needs...)
	}
	return all, nil
}

// permitTicket checks that the key still carries the scopes that were needed for
// what it comes back for.
func (g *Gate) permitTicket(key *keys.Key, t *Ticket) *Refusal {
	if g.policy.Rights.allow(key, t.scopes) {
		return nil
	}
	name := t.order.Tool
	if name == "" {
		name = items.Item{Kind: items.Method, Name: t.Method}.String()
	}
	return &Refusal{Code: ScopeInsufficient, Tool: name, Scopes: t.scopes, Lacking: g.lacking(key, t.scopes)}
}

// lacks refuses an item for want of a scope, and tells all that are needed: of
// what always has a price, to be charged, too. A tool that nobody may call is
// unknown all the same.
func (g *Gate) lacks(key *keys.Key, item items.Item, needs []string) *Refusal {
	offer, offered := g.policy.Prices.Offer(item)
	if item.Kind == items.Tool && !offered {
		return &Refusal{Code: ToolUnknown, Tool: item.Name}
	}
	if offered && !offer.Free() && !offer.Varies && !key.HasScope(keys.ScopeConnect) {
		needs = withConnect(needs)
	}
	return &Refusal{Code: ScopeInsufficient, Tool: item.String(), Scopes: needs, Lacking: g.lacking(key, needs)}
}

func (g *Gate) lacking(key *keys.Key, needs []string) []string {
	return slices.DeleteFunc(slices.Clone(needs), func(s string) bool { return g.policy.Rights.allow(key, []string{s}) })
}

// expression is one of a URI template (RFC 6570, 2.2).
var expression = regexp.MustCompile(`\{[^{}]+\}`)

// ambiguous reports whether a resource may be had under other scopes by writing
// its URI differently: see pricing.Book.Ambiguous. What is completed may be a
// template, of which all but the expressions must be in normal form.
func (r *Rights) ambiguous(uri string, mayBeTemplate bool) bool {
	if r == nil || r.rules.Len(items.Resource) == 0 || r.names(items.Item{Kind: items.Resource, Name: uri}) {
		return false
	}
	if mayBeTemplate {
		uri = expression.ReplaceAllLiteralString(uri, "x")
	}
	return !items.IsNormalURI(uri)
}

// asks returns the items of which a message wants something. Methods that the
// protocol does not have are items of their own.
func asks(item items.Item, known bool, m *mcp.Message) (asked []items.Item, err error) {
	switch {
	case known && m.Kind != mcp.KindRequest:
		return nil, nil
	case m.Kind != mcp.KindRequest: // an extension's
		return []items.Item{item}, nil
	case item.Kind != items.Method:
		return []items.Item{item}, nil
	case !known:
		asked = append(asked, item)
	}
	switch m.Method { // in either era: an operator may let pass what one of them has not
	case "resources/subscribe", "resources/unsubscribe":
		asked = append(asked, items.Item{Kind: items.Resource, Name: m.URI})
	case "completion/complete":
		var ref mcp.Reference
		ref, err = mcp.ReadReference(m.Params)
		if ref.Prompt != "" {
			asked = append(asked, items.Item{Kind: items.Prompt, Name: ref.Prompt})
		} else {
			asked = append(asked, items.Item{Kind: items.Resource, Name: ref.Resource})
		}
	case "subscriptions/listen":
		var listened mcp.Listened
		listened, err = mcp.ReadListened(m.Params)
		for _, uri := range listened.Resources {
			asked = append(asked, items.Item{Kind: items.Resource, Name: uri})
		}
	}
	return asked, err
}

// mayRead reports whether the key carries the scopes for a resource of which it
// can be told which they are.
func (g *Gate) mayRead(key *keys.Key, uri string) bool {
	r := g.policy.Rights
	return r.allOf(key) || !r.ambiguous(uri, false) && r.allow(key, r.of(items.Item{Kind: items.Resource, Name: uri}))
}

// mayUse reports whether an item belongs into the key's lists.
func (g *Gate) mayUse(key *keys.Key, item items.Item) bool {
	if g.policy.Rights.allOf(key) {
		return true
	}
	if !g.policy.Rights.allow(key, g.policy.Rights.of(item)) {
		return false
	}
	offer, priced := g.policy.Prices.Offer(item)
	return !priced || offer.Free() || offer.Varies || key.HasScope(keys.ScopeConnect)
}

// withConnect adds the scope without which nothing is charged.
func withConnect(scopes []string) []string {
	if slices.Contains(scopes, keys.ScopeConnect) {
		return scopes
	}
	return append(slices.Clip(scopes), keys.ScopeConnect)
}
