package gate

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// ScopeRule lists the scopes for the items that match the pattern. A caller needs
// all of these scopes. The syntax of patterns is that of items.Table.
type ScopeRule struct {
	Pattern string
	Scopes  []string
}

// Rights maps a server's items to the scopes that they require. It is immutable.
// A nil *Rights requires keys.ScopeConnect for everything.
type Rights struct {
	scopes  *keys.Catalogue
	rules   items.Table[[]string]
	require []string // the scopes that items without a rule require
	plain   bool     // there are no rules, and items require only keys.ScopeConnect
}

// usual lists the scopes that items require unless the operator sets others.
var usual = []string{keys.ScopeConnect}

// NewRights compiles the rules. The catalogue declares the scopes that exist, and which
// scopes each of them includes. Items without a rule need the scopes in require, or
// keys.ScopeConnect if require is empty. An undeclared scope is an error that lists the
// declared ones.
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

// Named returns the declared scopes that at least one rule requires, or that items
// without a rule require. They are in alphabetical order without duplicates.
// keys.ScopeConnect is not a declared scope, so it is left out.
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

// Required returns the declared scopes that items without a rule require. As in
// Named, keys.ScopeConnect is left out.
func (r *Rights) Required() []string {
	if r == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.require), func(s string) bool { return s == keys.ScopeConnect })
}

// of returns the scopes required by the item.
func (r *Rights) of(item items.Item) []string {
	if r == nil {
		return usual
	}
	if scopes, ok := r.rules.Find(item); ok {
		return scopes
	}
	return r.require
}

// names reports whether a rule has the item's exact name as its pattern.
func (r *Rights) names(item items.Item) bool { return r != nil && r.rules.HasExactly(item) }

// confusable reports whether a server could mistake the item's name for the name of an
// item with other scopes; see items.Table.Confusable.
func (r *Rights) confusable(item items.Item) (pattern string, yes bool) {
	if r == nil {
		return "", false
	}
	return r.rules.Confusable(item)
}

// allow reports whether the caller carries each of the scopes, or a scope that
// includes it.
func (r *Rights) allow(caller *Caller, scopes []string) bool {
	var catalogue *keys.Catalogue
	if r != nil {
		catalogue = r.scopes
	}
	for _, s := range scopes {
		if !caller.HasScope(s) && !catalogue.Includes(caller.Scopes, s) {
			return false
		}
	}
	return true
}

// Scopes returns the scopes that the caller carries by name, and the scopes that
// those include.
func (g *Gate) Scopes(caller *Caller) []string {
	var catalogue *keys.Catalogue
	if g.policy.Rights != nil {
		catalogue = g.policy.Rights.scopes
	}
	return catalogue.Expand(caller.Scopes)
}

// allOf reports whether all items require only the usual scope and the caller
// carries it. If so, no item has to be checked separately.
func (r *Rights) allOf(caller *Caller) bool {
	return (r == nil || r.plain) && caller.HasScope(keys.ScopeConnect)
}

// permit checks that the caller carries the scopes for the items that a message
// asks for, and returns those scopes. Opening and keeping up a connection needs no
// scope. Lists need no scope either, because they are filtered by the caller's
// scopes. A task needs the scopes of its call.
func (g *Gate) permit(caller *Caller, item items.Item, known bool, m *mcp.Message) ([]string, *Refusal) {
	if g.policy.Rights.allOf(caller) {
		return usual, nil
	}
	asked, err := asks(item, known, m)
	if err != nil {
		return nil, &Refusal{Code: ParamsInvalid, Cause: err, Reason: "the params cannot be read with certainty"}
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
		if !g.policy.Rights.allow(caller, needs) {
			return nil, g.lacks(caller, item, needs)
		}
		all = append(all, needs...)
	}
	return all, nil
}

// permitTicket checks that the caller still carries the scopes of the ticket's
// request.
func (g *Gate) permitTicket(caller *Caller, t *Ticket) *Refusal {
	if g.policy.Rights.allow(caller, t.scopes) {
		return nil
	}
	name := t.order.Tool
	if name == "" {
		name = items.Item{Kind: items.Method, Name: t.Method}.String()
	}
	return &Refusal{Code: ScopeInsufficient, Tool: name, Scopes: t.scopes, Lacking: g.lacking(caller, t.scopes)}
}

// lacks returns the refusal of an item because the caller lacks some of its scopes.
// The refusal lists all required scopes together, including keys.ScopeConnect if the
// item always has a price. A tool that no caller may call is reported as unknown
// instead.
func (g *Gate) lacks(caller *Caller, item items.Item, needs []string) *Refusal {
	offer, offered := g.policy.Prices.Offer(item)
	if item.Kind == items.Tool && !offered {
		return &Refusal{Code: ToolUnknown, Tool: item.Name}
	}
	if offered && !offer.Free() && !offer.Varies && !caller.HasScope(keys.ScopeConnect) {
		needs = withConnect(needs)
	}
	return &Refusal{Code: ScopeInsufficient, Tool: item.String(), Scopes: needs, Lacking: g.lacking(caller, needs)}
}

func (g *Gate) lacking(caller *Caller, needs []string) []string {
	return slices.DeleteFunc(slices.Clone(needs), func(s string) bool { return g.policy.Rights.allow(caller, []string{s}) })
}

// expression matches an expression of a URI template (RFC 6570, 2.2).
var expression = regexp.MustCompile(`\{[^{}]+\}`)

// ambiguous reports whether spelling a resource's URI differently could put it under
// other scopes; see pricing.Book.Ambiguous. If mayBeTemplate is true, uri may be a URI
// template, as in a completion. A template must be in normal form only outside its
// expressions.
func (r *Rights) ambiguous(uri string, mayBeTemplate bool) bool {
	if r == nil || r.rules.Len(items.Resource) == 0 || r.names(items.Item{Kind: items.Resource, Name: uri}) {
		return false
	}
	if mayBeTemplate {
		uri = expression.ReplaceAllLiteralString(uri, "x")
	}
	return !items.IsNormalURI(uri)
}

// asks returns the items that a message asks for. A method that the protocol does
// not have is an item itself.
func asks(item items.Item, known bool, m *mcp.Message) (asked []items.Item, err error) {
	switch {
	case known && m.Kind != mcp.KindRequest:
		return nil, nil
	case m.Kind != mcp.KindRequest: // a notification of an extension
		return []items.Item{item}, nil
	case item.Kind != items.Method:
		return []items.Item{item}, nil
	case !known:
		asked = append(asked, item)
	}
	switch m.Method { // methods of both protocol eras are listed, because an operator may allow a method in an era that does not have it
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
	case mcp.MethodListen:
		var listened mcp.Listened
		listened, err = mcp.ReadListened(m.Params)
		for _, uri := range listened.Resources {
			asked = append(asked, items.Item{Kind: items.Resource, Name: uri})
		}
	}
	return asked, err
}

// mayRead reports whether the caller carries the scopes for a resource. It returns
// false if spelling the URI differently could require other scopes.
func (g *Gate) mayRead(caller *Caller, uri string) bool {
	r := g.policy.Rights
	return r.allOf(caller) || !r.ambiguous(uri, false) && r.allow(caller, r.of(items.Item{Kind: items.Resource, Name: uri}))
}

// mayUse reports whether an item belongs in the caller's lists.
func (g *Gate) mayUse(caller *Caller, item items.Item) bool {
	if g.policy.Rights.allOf(caller) {
		return true
	}
	if !g.policy.Rights.allow(caller, g.policy.Rights.of(item)) {
		return false
	}
	offer, priced := g.policy.Prices.Offer(item)
	return !priced || offer.Free() || offer.Varies || caller.HasScope(keys.ScopeConnect)
}

// withConnect returns the scopes together with keys.ScopeConnect, which every charge
// requires.
func withConnect(scopes []string) []string {
	if slices.Contains(scopes, keys.ScopeConnect) {
		return scopes
	}
	return append(slices.Clip(scopes), keys.ScopeConnect)
}
