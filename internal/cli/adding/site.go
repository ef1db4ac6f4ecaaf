package adding

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/offer"
)

// Site describes the site of a Caddyfile that sells one server.
type Site struct {
	Address  string   // the address of the site, such as mcp.example.com
	Server   string   // name of the server
	Provider string   // account that gets the credits
	URL      *url.URL // address of the server; nil if Command runs it
	Command  []string // a server on stdin and stdout
	Price    string   // amount for each tool; "" if it is not known
	Offer    *offer.Offer

	bind     string // listener; "" for the usual one
	unpriced string // the value of unpriced; "" means deny
}

// String returns the site as lines of a Caddyfile.
//
// Without a price, the lines with prices are comments. The site then refuses all tools: a
// price that nobody has chosen would be a guess.
func (s *Site) String() string {
	var b strings.Builder
	line := func(indent int, words ...string) {
		b.WriteString(strings.Repeat("\t", indent) + strings.Join(words, " ") + "\n")
	}
	line(0, s.Address, "{")
	if s.bind != "" {
		line(1, "bind", quote(s.bind))
	}
	line(1, "farebox_metadata")
	line(1, "handle /mcp* {")
	if path := s.path(); path != "/mcp" {
		line(2, "rewrite *", quote(path))
	}
	line(2, "farebox {")
	line(3, "server", s.Server)
	line(3, "provider", quote(s.Provider))
	if s.URL != nil {
		line(3, "upstream", s.upstream())
	}
	unpriced := s.unpriced
	if unpriced == "" {
		unpriced = "deny"
	}
	line(3, "unpriced", unpriced)
	for _, l := range s.prices() {
		line(3, l)
	}
	line(2, "}")
	if s.URL == nil {
		words := []string{"farebox_stdio"}
		for _, word := range s.Command {
			words = append(words, quote(word))
		}
		line(2, words...)
	}
	line(1, "}")
	line(1, "handle {")
	line(2, "error 404")
	line(1, "}")
	line(0, "}")
	return b.String()
}

// upstream returns the server's address without its path.
func (s *Site) upstream() string {
	if s.URL.Scheme == "https" {
		return "https://" + s.URL.Host
	}
	return s.URL.Host
}

// path returns the path at which the server answers.
func (s *Site) path() string {
	if s.URL == nil || s.Offer.Path == "" {
		return "/mcp"
	}
	return s.Offer.Path
}

// prices returns a line for each item that can have a price.
func (s *Site) prices() (lines []string) {
	prefix, amount := "# price ", "0.01"
	if s.Price != "" {
		prefix, amount = "price ", s.Price
	}
	for _, item := range s.Offer.Items {
		switch item.Kind {
		case offer.Tool:
			lines = append(lines, prefix+quote(escape(items.Item{Kind: items.Tool, Name: item.Name}.String()))+" "+amount)
		case offer.Prompt:
			lines = append(lines, "# price "+quote(escape(items.Item{Kind: items.Prompt, Name: item.Name}.String()))+" "+amount)
		case offer.Resource:
			lines = append(lines, "# price "+quote(items.Item{Kind: items.Resource, Name: item.Name}.String())+" "+amount)
		}
	}
	return lines
}

// escape escapes a name that is used as a pattern.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// quote returns a word of a Caddyfile.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\r\n\"`{}#\\") {
		return word
	}
	if !strings.Contains(word, "`") {
		return "`" + word + "`"
	}
	return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
}

// summary returns the server's name and the number of its items, for a comment.
func (s *Site) summary() string {
	counts := make(map[string]int)
	for _, item := range s.Offer.Items {
		counts[item.Kind]++
	}
	name := strings.TrimSpace(s.Offer.Name + " " + s.Offer.Version)
	if name == "" {
		name = "a server without a name"
	}
	return fmt.Sprintf("%s: tools: %d, prompts: %d, resources: %d", oneLine(name), counts[offer.Tool], counts[offer.Prompt], counts[offer.Resource])
}

// oneLine replaces control characters, which a server could use to leave the comment.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\u2028' || c == '\u2029' || c == '\u0085' {
			return ' '
		}
		return c
	}, text)
}
