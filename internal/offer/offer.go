// Package offer lists the items that an MCP server offers to a client: its tools,
// prompts, resources and resource templates. It works with servers with and without
// sessions. The package also stores the last offer of a server, so that changes can be
// detected.
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

// Item is one entry of a server's lists.
type Item struct {
	Kind string
	Name string // the name; the URI of a resource; the URI template of a template
	// Digest is a hash of the whole entry, except _meta. It does not depend on the
	// order of members.
	Digest string
}

// Key returns a text that identifies the item among the items of all kinds.
func (i Item) Key() string { return i.Kind + ":" + i.Name }

// Offer is the set of items that a server offers.
type Offer struct {
	Name, Version string // name and version, as the server states them; may be empty
	Path          string // path at which the server was found
	Items         []Item
}

// The bounds of the lists.
const (
	maxAnswer = 8 << 20 // bytes in one response
	maxItems  = 10_000  // items in all lists together
	maxPages  = 1000    // pages in one list
)

// lists has an entry for each method that lists items. The entry contains the
// capability that announces the method, the member of its result that holds the list,
// the member that identifies an item, and the kind of the items.
var lists = []struct{ method, capability, member, name, kind string }{
	{"tools/list", "tools", "tools", "name", Tool},
	{"prompts/list", "prompts", "prompts", "name", Prompt},
	{"resources/list", "resources", "resources", "uri", Resource},
	{"resources/templates/list", "resources", "resourceTemplates", "uriTemplate", Template},
}

// Ask tries the paths in order and returns the offer of the first MCP server that it
// finds. The transport must connect to the server whichever host name the request has.
// The header fields are added to every request.
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
		if ctx.Err() != nil || !errors.As(err, new(*statusError)) && !errors.Is(err, errNoAnswer) { // trying another path would not help
			break
		}
	}
	return nil, errors.Join(failures...)
}

// ask begins a session, if the server has sessions, and reads all lists.
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

// list reads all pages of one list. If the server does not have the method, list
// returns no items.
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
		_ = json.Unmarshal(page["nextCursor"], &next) // nextCursor is absent or null on the last page
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

// digest returns the Digest of an item. It removes _meta from the item.
func digest(item map[string]any) string {
	delete(item, "_meta")
	text, err := json.Marshal(item) // Marshal sorts the members
	if err != nil {
		panic(err) // cannot happen, because item was decoded from JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Sort sorts the items by kind and by name.
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
