package adding

import (
	"net/url"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/offer"
)

// TestSite checks the lines of a site: with and without a price, for a URL and for a
// program, and with names that are no plain words of a Caddyfile.
func TestSite(t *testing.T) {
	items := []offer.Item{
		{Kind: offer.Tool, Name: "get_forecast"}, {Kind: offer.Tool, Name: "two words"}, {Kind: offer.Tool, Name: "all*"}, {Kind: offer.Tool, Name: "prompt:x"},
		{Kind: offer.Prompt, Name: "greet"}, {Kind: offer.Resource, Name: "file:///a b"}, {Kind: offer.Template, Name: "file:///{path}"},
	}
	at := func(address string) *url.URL {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, c := range map[string]struct {
		site      Site
		has, lack []string
	}{
		"a URL": {Site{URL: at("http://localhost:3001/mcp"), Offer: &offer.Offer{Path: "/mcp", Items: items}},
			[]string{"\nmcp.example.com {", "\tupstream localhost:3001\n", "\tunpriced deny\n", "\t# price get_forecast 0.01\n", "\t# price `two words` 0.01\n", "\t# price `all\\*` 0.01\n", "\t# price tool:prompt:x 0.01\n", "\t# price prompt:greet 0.01\n", "\t# price `resource:file:///a b` 0.01\n"},
			[]string{"rewrite", "{path}", "farebox_stdio"}},
		"a price": {Site{URL: at("http://localhost:3001/mcp"), Price: "0.02", Offer: &offer.Offer{Path: "/mcp", Items: items}},
			[]string{"\tprice get_forecast 0.02\n", "\t# price prompt:greet 0.02\n"}, []string{"# price get_forecast"}},
		"another path and TLS": {Site{URL: at("https://tools.example/x"), Offer: &offer.Offer{Path: "/x", Items: items}},
			[]string{"\trewrite * /x\n", "\tupstream https://tools.example\n"}, nil},
		"a program": {Site{Command: []string{"npx", "-y", "server files", `a"b`, "c`\"d"}, Offer: &offer.Offer{Items: items}},
			[]string{"\tfarebox_stdio npx -y `server files` `a\"b` \"c`\\\"d\"\n"}, []string{"upstream", "rewrite"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.site.Address, c.site.Server, c.site.Provider = "mcp.example.com", "weather", "acme"
			got := "\n" + c.site.String()
			for _, want := range c.has {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %s", want, got)
				}
			}
			for _, bad := range c.lack {
				if strings.Contains(got, bad) {
					t.Errorf("%q in %s", bad, got)
				}
			}
		})
	}
}

// TestSummary checks that a server cannot leave the comment that names it.
func TestSummary(t *testing.T) {
	s := Site{Offer: &offer.Offer{Name: "a\n}\nimport evil", Version: "1\u2028", Items: []offer.Item{{Kind: offer.Tool}}}}
	if got := s.summary(); got != "a } import evil 1: tools: 1, prompts: 0, resources: 0" {
		t.Errorf("got %q", got)
	}
}

// TestArguments checks which arguments the command takes.
func TestArguments(t *testing.T) {
	for _, c := range []struct {
		args  []string
		dash  int
		price string
		want  string // in the error; "" for none
	}{
		{[]string{"weather", "http://localhost:3001/mcp"}, -1, "0.01", ""},
		{[]string{"weather", "https://x.example"}, -1, "", ""},
		{[]string{"files", "npx", "-y", "x"}, 1, "", ""},
		{[]string{"a/b", "http://localhost"}, -1, "", "is not one for a server"},
		{[]string{"weather", "localhost:3001"}, -1, "", "is not the URL"},
		{[]string{"weather", "http://u:p@localhost"}, -1, "", "is not the URL"},
		{[]string{"weather", "npx", "-y", "x"}, -1, "", "after --"},
		{[]string{"weather", "x", "npx"}, 2, "", "after --"},
		{[]string{"weather", "http://localhost"}, -1, "-1", "above zero"},
		{[]string{"weather", "http://localhost"}, -1, "free", "above zero"},
	} {
		s := Site{Price: c.price}
		err := s.take(c.args, c.dash)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
