package help

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// grants finds one grant for every token, or fails.
type grants struct {
	grant oauth.Grant
	err   error
}

func (g grants) GrantOf(context.Context, keys.Digest) (oauth.Grant, error) { return g.grant, g.err }

// TestTopUp checks that the listed clients get no link for buying, in whichever way they are
// known, and that all other clients get the link.
func TestTopUp(t *testing.T) {
	const page = "https://pay.example.com"
	token := gate.Caller{Key: &keys.Key{Kind: keys.Access}}
	key := gate.Caller{Key: &keys.Key{Kind: keys.Agent}}
	chatgpt := grants{grant: oauth.Grant{Client: "https://chatgpt.com/oauth/a1/client.json"}}
	for name, c := range map[string]struct {
		hide   []string
		agent  string
		caller gate.Caller
		grants Grants
		shown  bool
	}{
		"a key":                          {caller: key, grants: chatgpt, shown: true},
		"ChatGPT by its program":         {agent: "openai-mcp/1.0.0 (ChatGPT)", caller: key},
		"another program":                {agent: "python-httpx/0.28 my-openai-mcp/1", caller: key, shown: true},
		"ChatGPT by its document":        {caller: token, grants: chatgpt},
		"ChatGPT by where codes go":      {caller: token, grants: grants{grant: oauth.Grant{Client: "dyn_1", Host: "chatgpt.com"}}},
		"a host below":                   {caller: token, grants: grants{grant: oauth.Grant{Host: "eu.ChatGPT.com:443"}}},
		"a host that ends alike":         {caller: token, grants: grants{grant: oauth.Grant{Host: "notchatgpt.com"}}, shown: true},
		"a name that is a host's end":    {hide: []string{"com"}, caller: token, grants: chatgpt, shown: true},
		"another app":                    {caller: token, grants: grants{grant: oauth.Grant{Client: "https://claude.ai/oauth/x", Host: "claude.ai"}}, shown: true},
		"a grant that cannot be read":    {caller: token, grants: grants{err: ledger.ErrUnavailable}, shown: true},
		"no authorization server":        {caller: token, shown: true},
		"a client of another issuer":     {hide: []string{"shop-agent"}, caller: gate.Caller{Client: "shop-agent"}},
		"a URL as another issuer's":      {hide: []string{"app.example"}, caller: gate.Caller{Client: "https://app.example/id"}},
		"an operator's list":             {hide: []string{"claude.ai"}, caller: token, grants: grants{grant: oauth.Grant{Host: "claude.ai"}}},
		"ChatGPT with an operator's own": {hide: []string{"claude.ai"}, caller: token, grants: chatgpt, shown: true},
		"ChatGPT if nobody is left out":  {hide: []string{"none"}, agent: "openai-mcp/1", caller: token, grants: chatgpt, shown: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/mcp", nil)
			r.Header.Set("User-Agent", c.agent)
			h := Help{TopUpURL: page, TopUpHideFrom: c.hide}
			if got := h.TopUp(r, &c.caller, c.grants); (got == page) != c.shown || got != "" && got != page {
				t.Errorf("got %q, shown: want %v", got, c.shown)
			}
		})
	}
	if got := new(Help).TopUp(httptest.NewRequest("POST", "/mcp", nil), &key, nil); got != "" {
		t.Errorf("without a page: %q", got)
	}
}

// TestHideFrom checks which lists of clients can be configured.
func TestHideFrom(t *testing.T) {
	for args, want := range map[string]string{
		"chatgpt.com openai-mcp": "", "none": "", "": "at least one client", "none chatgpt.com": "none stands alone",
		"https://chatgpt.com": "neither a host", "openai-mcp/1.0": "neither a host", "*.openai.com": "neither a host", `"chätgpt"`: "neither a host",
		strings.Repeat("a ", 101): "at most 100",
	} {
		d := caddyfile.NewTestDispenser("topup_url https://pay.example.com {\n hide_from " + args + "\n}")
		d.Next()
		var h Help
		err := h.ParseTopUp(d)
		if want == "" && (err != nil || len(h.TopUpHideFrom) == 0 || h.Check() != nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", args, err, want)
		}
	}
}

// TestInherit checks that a site has the global option where it has none of its own.
func TestInherit(t *testing.T) {
	global := Help{Contact: "ops", TopUpURL: "https://pay.example.com", TopUpHideFrom: []string{"none"}}
	h := Help{TopUpURL: "https://own.example.com"}
	h.Inherit(&global)
	if h.Contact != "ops" || h.TopUpURL != "https://own.example.com" || len(h.TopUpHideFrom) != 1 {
		t.Errorf("inherited %+v", h)
	}
}
