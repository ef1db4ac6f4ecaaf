// Package offer lists the offer of an MCP server as a client would: its tools,
// prompts, resources and resource templates, with or without sessions. It remembers
// the last offer, to detect changes.
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
	Name string // or the URI of a resource, or the template
	// Digest is the same as long as the item's description is, in any order of
	// members. It ignores _meta.
	Digest string
}

// Key identifies an item among those of all kinds.
func (i Item) Key() string { return i.Kind + ":" + i.Name }

// Offer is the offer of a server.
type Offer struct {
	Name, Version string // of the server, as it says; may be empty
	Path          string // at which the server was found
	Items         []Item
}

// The bounds of the lists.
const (
	maxAnswer = 8 << 20 // bytes of one response
	maxItems  = 10_000  // of all kinds
	maxPages  = 1000    // of one list
)

// lists are the list methods, each with the capability that announces it, the member
// with the list and the member that names an item.
var lists = []struct{ method, capability, member, name, kind string }{
	{"tools/list", "tools", "tools", "name", Tool},
	{"prompts/list", "prompts", "prompts", "name", Prompt},
	{"resources/list", "resources", "resources", "uri", Resource},
	{"resources/templates/list", "resources", "resourceTemplates", "uriTemplate", Template},
}

// Ask queries the server at the first of the paths with an MCP server. The transport
// must reach the server for any host name; header is added to every request.
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
		if ctx.Err() != nil || !errors.As(err, new(*statusError)) && !errors.Is(err, errNoAnswer) { // other errors come from an MCP server
			break
		}
	}
	return nil, errors.Join(failures...)
}

// ask opens a session, if the server has sessions, and reads all lists.
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
		_ = json.Unmarshal(page["nextCursor"], &next) // missing or null ends the list
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
		panic(err) // it was decoded from JSON
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
