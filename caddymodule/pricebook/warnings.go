package pricebook

import (
	"log/slog"
	"strings"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Warn logs warnings about a valid price book that is probably a mistake. A price that
// can never match is an error instead; see items.Table.Add. source is the site's
// position in the Caddyfile.
func (t *Terms) Warn(log *slog.Logger, server, source string, book *pricing.Book) {
	if !t.sellsTools() && t.Unpriced == Deny {
		log.Warn("no tool of this server can be called: no price or free names one, and unpriced deny refuses those that none names",
			"server", server, "at", source, "advice", "write price or free for its tools, or unpriced free, or unpriced and an amount")
	}
	for _, p := range t.Prices {
		item, err := items.Parse(p.Tool)
		if err != nil {
			continue // cannot happen: Compile refuses such a price
		}
		if reason, advice := doubtOf(item, book); reason != "" {
			log.Warn("a price will hardly match anything: "+reason, "server", server, "price", p.Tool, "at", p.Source, "advice", advice)
		}
	}
}

func (t *Terms) sellsTools() bool {
	for _, p := range t.Prices {
		if item, err := items.Parse(p.Tool); err == nil && item.Kind == items.Tool {
			return true
		}
	}
	return false
}

// doubtOf returns the reason why the name in a price is probably a mistake, and the
// likely correction. Both are "" for a plausible name.
func doubtOf(item items.Item, book *pricing.Book) (reason, advice string) {
	switch {
	case strings.TrimSpace(item.Name) != item.Name:
		return "its name begins or ends with a space", "take the space out"
	case item.Kind != items.Resource && strings.Trim(item.Name, ",;") != item.Name:
		return "its name begins or ends with a comma or a semicolon", "separate names by spaces alone"
	case item.Kind != items.Resource && len(item.Name) > 1 && strings.Trim(item.Name, "'`\"“”„’") != item.Name:
		return "its name begins or ends with a quotation mark", `quote names with " and nothing else`
	case item.Kind == items.Resource && book.SellsResources() && !items.MayBeNormal(item.Name):
		return "its URI is not in normal form, in which clients have to write those of priced resources",
			"write it in its normal form (RFC 3986, 6.2.2): the scheme and the host in lower case, without . and .., needless %41 and fragments"
	}
	return "", ""
}
