// Package offer asks an MCP server what it offers, as a client would: its tools,
// prompts, resources and templates of resources, in either kind of protocol
// versions. It remembers what it was told, so that changes show.
package offer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// The kinds of items.
const (
	Tool     = "tool"
	Prompt   = "prompt"
	Resource = "resource"
	Template = "resource template"
)

// Item is one thing that a server offers.
type Item struct {
	Kind string
	Name string // of a resource its URI, of a template the template
	// Digest is the same as long as the server says the same of the item, in
	// whatever order of members; its _meta is left out.
	Digest string
}

// Key names an item among those of all kinds.
func (i Item) Key() string { return i.Kind + ":" + i.Name }

// Offer is what a server offers.
type Offer struct {
	Name, Version string // that the server gives itself; may be empty
	Path          string // where it was found
	Items         []Item
}

// The bounds of what is read.
const (
	maxAnswer = 8 << 20 // bytes of one answer
	maxItems  = 10_000  // of all kinds
	maxPages  = 1000    // of one list
)

// lists are the methods that list, with the capability that announces them, the
// member that has the list, and the one that an item goes by.
var lists = []struct{ method, capability, member, name, kind string }{
	{"tools/list", "tools", "tools", "name", Tool},
	{"prompts/list", "prompts", "prompts", "name", Prompt},
	{"resources/list", "resources", "resources", "uri", Resource},
	{"resources/templates/list", "resources", "resourceTemplates", "uriTemplate", Template},
}

// Ask asks the server at the first of the paths where one answers. The transport
// reaches the server whatever host is named; header goes with every request.
func Ask(ctx context.Context, transport http.RoundTripper, host string, paths []string, header http.Header) (*Offer, error) {
	var failures []error
	for _, path := range paths {
		c := &client{transport: transport, url: "http://" + host + path, header: header}
		offer, err := c.ask(ctx)
		c.end(ctx)
		if err == nil {
			offer.Path = path
			return offer, nil
		}
		failures = append(failures, fmt.Errorf("at %s: %w", path, err))
		if ctx.Err() != nil || !errors.As(err, new(*statusError)) && !errors.Is(err, errNoAnswer) { // else it is no MCP server's place
			break
		}
	}
	return nil, errors.Join(failures...)
}

// ask opens a session, or finds that the server has none, and reads all lists.
func (c *client) ask(ctx context.Context) (*Offer, error) {
	offer := new(Offer)
	capabilities, err := c.open(ctx, offer)
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		if _, has := capabilities[list.capability]; capabilities != nil && !has {
			continue
		}
		items, err := c.list(ctx, list.method, list.member, list.name, list.kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list.method, err)
		}
		if offer.Items = append(offer.Items, items...); len(offer.Items) > maxItems {
			return nil, fmt.Errorf("it offers more than %d items", maxItems)
		}
	}
	return offer, nil
}

// list reads all pages of one list.
func (c *client) list(ctx context.Context, method, member, name, kind string) (items []Item, err error) {
	cursor := ""
	for range maxPages {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		raw, err := c.call(ctx, method, params)
		var refused *rpcError
		if errors.As(err, &refused) && refused.Code == methodNotFound && cursor == "" {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var page map[string]json.RawMessage
		var list []map[string]any
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, errNoAnswer
		}
		if err := unmarshal(page[member], &list); err != nil && page[member] != nil {
			return nil, fmt.Errorf("its list cannot be read: %w", err)
		}
		for _, item := range list {
			text, _ := item[name].(string)
			items = append(items, Item{kind, text, digest(item)})
		}
		next := ""
		_ = json.Unmarshal(page["nextCursor"], &next) // none, or null, is the end
		if next == "" {
			return items, nil
		}
		if next == cursor || len(items) > maxItems {
			break
		}
		cursor = next
	}
	return nil, errors.New("its list has no end")
}

// digest returns the digest of an item.
func digest(item map[string]any) string {
	delete(item, "_meta")
	text, err := json.Marshal(item) // sorts the members
	if err != nil {
		panic(err) // it came from JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Sort puts the items into their order: by kind, and by name.
func (o *Offer) Sort() {
	order := []string{Tool, Prompt, Resource, Template}
	slices.SortStableFunc(o.Items, func(a, b Item) int {
		if a.Kind != b.Kind {
			return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
		}
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
}
