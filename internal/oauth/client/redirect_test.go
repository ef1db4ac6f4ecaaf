package client

import (
	"strings"
	"testing"
)

// TestRedirect: a redirect URI of a request must be the same text as one of the client's.
// Only the port of a loopback address is free. Each refused row is an attack, or a form
// that another parser could read as the client's URI.
func TestRedirect(t *testing.T) {
	c := &Client{RedirectURIs: []string{
		"https://agent.example/callback",
		"https://agent.example:8443/cb?fixed=1",
		"http://127.0.0.1/",
		"http://127.0.0.1:33418/deep/path?x=1",
		"http://localhost/callback",
		"http://[::1]/callback",
		"cursor://anysphere.cursor-mcp/oauth/callback",
	}}
	for _, row := range []struct {
		uri string
		ok  bool
	}{
		{"https://agent.example/callback", true},
		{"https://agent.example:8443/cb?fixed=1", true},
		{"http://127.0.0.1/", true},
		{"http://127.0.0.1:1/", true},
		{"http://127.0.0.1:65535/", true},
		{"http://127.0.0.1:49152", true}, // an empty path is the root
		{"http://127.0.0.1:5/deep/path?x=1", true},
		{"http://127.0.0.1/deep/path?x=1", true},
		{"http://localhost:51234/callback", true},
		{"http://[::1]:51234/callback", true},
		{"cursor://anysphere.cursor-mcp/oauth/callback", true},

		// prefixes and suffixes
		{"https://agent.example/callback/", false},
		{"https://agent.example/callbac", false},
		{"https://agent.example/callback?x=1", false},
		{"https://agent.example/callback/../callback", false},
		{"https://agent.example/x/%2e%2e/callback", false},
		{"https://agent.example.evil.example/callback", false},
		{"https://evil.example/?https://agent.example/callback", false},
		{"http://127.0.0.1:5/deep/path", false},
		{"http://127.0.0.1:5/deep/path?x=1&y=2", false},
		{"http://localhost:5/callback/more", false},
		{"http://localhost:5/", false},
		// case
		{"HTTPS://agent.example/callback", false},
		{"https://AGENT.example/callback", false},
		{"https://agent.example/Callback", false},
		{"http://LOCALHOST/callback", false},
		{"HTTP://localhost/callback", false},
		{"Cursor://anysphere.cursor-mcp/oauth/callback", false},
		// fragments
		{"https://agent.example/callback#", false},
		{"https://agent.example/callback#x", false},
		{"http://localhost/callback#x", false},
		// user information
		{"https://agent.example@evil.example/callback", false},
		{"https://user@agent.example/callback", false},
		{"http://localhost@evil.example/callback", false},
		{"http://localhost:80@evil.example/callback", false},
		{"http://127.0.0.1:80@evil.example/", false},
		// other forms of loopback
		{"http://127.1/", false},
		{"http://127.0.0.2/", false},
		{"http://0x7f.1/", false},
		{"http://0x7f000001/", false},
		{"http://2130706433/", false},
		{"http://0177.0.0.1/", false},
		{"http://127.000.000.001/", false},
		{"http://0.0.0.0/", false},
		{"http://[::ffff:127.0.0.1]/callback", false},
		{"http://[0:0:0:0:0:0:0:1]/callback", false},
		{"http://[::1%25lo]/callback", false},
		{"http://localhost.evil.example/callback", false},
		{"http://127.0.0.1.evil.example/", false},
		{"http://localhost./callback", false},
		{"http://127.0.0.1./", false},
		{"https://localhost/callback", false},
		{"https://127.0.0.1/", false},
		{"https://agent.example./callback", false},
		// one host of loopback for another: the client chose which one it listens at
		{"http://127.0.0.1:5/callback", false},
		{"http://[::1]/", false},
		// ports
		{"https://agent.example:443/callback", false},
		{"https://agent.example:8443/callback", false},
		{"https://agent.example/cb?fixed=1", false},
		{"http://localhost:/callback", false},
		{"http://localhost:0/callback", false},
		{"http://localhost:080/callback", false},
		{"http://localhost:65536/callback", false},
		{"http://localhost:+80/callback", false},
		{"http://localhost:80:80/callback", false},
		// encoded slashes, backslashes, white space and other characters
		{"https://agent.example%2fcallback", false},
		{"https://agent.example/%63allback", false},
		{"http://localhost%2fcallback", false},
		{"https://agent.example\\callback", false},
		{"https://evil.example\\@agent.example/callback", false},
		{"http://localhost\\@evil.example/callback", false},
		{"https://agent.example/callback\t", false},
		{"https://agent.example/call\nback", false},
		{" https://agent.example/callback", false},
		{"https://agent.example/callback ", false},
		{"https://agent.example/callback\x00", false},
		{"https://agent\u3002example/callback", false},
		{"http://localhost:80/callback\r\nLocation: https://evil.example", false},
		// other schemes, and no authority
		{"javascript:alert(1)", false},
		{"javascript://agent.example/callback", false},
		{"data:text/html,x", false},
		{"http://agent.example/callback", false},
		{"//agent.example/callback", false},
		{"https:agent.example/callback", false},
		{"https:///agent.example/callback", false},
		{"/callback", false},
		{"cursor:anysphere.cursor-mcp/oauth/callback", false},
		{"https://agent.example/callback" + strings.Repeat("x", maxURI), false},
	} {
		got, err := c.Redirect(row.uri)
		if (err == nil) != row.ok || row.ok && got != row.uri {
			t.Errorf("%.80q: %q, %v", row.uri, got, err)
		}
	}
}

// TestRedirectIsOptionalForOne: a request may leave redirect_uri out only if the client
// has exactly one.
func TestRedirectIsOptionalForOne(t *testing.T) {
	one := &Client{RedirectURIs: []string{"https://a.example/"}}
	if got, err := one.Redirect(""); err != nil || got != "https://a.example/" {
		t.Errorf("%q, %v", got, err)
	}
	for _, uris := range [][]string{nil, {"https://a.example/", "https://b.example/"}} {
		if got, err := (&Client{RedirectURIs: uris}).Redirect(""); err == nil {
			t.Errorf("%d URIs: %q", len(uris), got)
		}
	}
}

// TestPolicy: a registration may use loopback addresses, the callbacks of known hosts and
// the operator's additions, and no other address.
func TestPolicy(t *testing.T) {
	p, err := newPolicy([]string{"https://tools.example/oauth/*", "myapp://callback/done"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		uri                   string
		registered, published bool
	}{
		{"https://claude.ai/api/mcp/auth_callback", true, true},
		{"https://claude.com/api/mcp/auth_callback", true, true},
		{"https://chatgpt.com/connector/oauth/Abc-123_x", true, true},
		{"https://chatgpt.com/connector_platform_oauth_redirect", true, true},
		{"cursor://anysphere.cursor-mcp/oauth/callback", true, true},
		{"https://www.cursor.com/agents/mcp/oauth/callback", true, true},
		{"https://vscode.dev/redirect", true, true},
		{"https://insiders.vscode.dev/redirect", true, true},
		{"https://oauth.n8n.cloud/oauth2/callback", true, true},
		{"http://localhost:7777/oauth/callback", true, true},
		{"http://127.0.0.1:33418", true, true},
		{"http://[::1]:3118/callback", true, true},
		{"https://tools.example/oauth/7", true, true},
		{"myapp://callback/done", true, true},

		{"https://agent.example/callback", false, true},
		{"https://agent.example:8443/callback", false, true},
		{"https://claude.ai/api/mcp/auth_callback/x", false, true},
		{"https://claude.ai/", false, true},
		{"https://chatgpt.com/connector/oauth/", false, true},
		{"https://chatgpt.com/connector/oauth/a/b", false, true},
		{"https://chatgpt.com/connector/oauth/a?b", false, true},
		{"https://chatgpt.com/connector/oauth/a%2fb", false, true},
		{"https://chatgpt.com/connector/oauth/..", false, false},
		{"https://tools.example/oauth/7/8", false, true},

		{"https://claude.ai.evil/api#", false, false},
		{"https://localhost/callback", false, false},
		{"https://127.0.0.1/callback", false, false},
		{"https://[::1]/callback", false, false},
		{"https://Claude.ai/api/mcp/auth_callback", false, false},
		{"https://claude.ai./api/mcp/auth_callback", false, false},
		{"https://user@claude.ai/api/mcp/auth_callback", false, false},
		{"http://claude.ai/api/mcp/auth_callback", false, false},
		{"http://localhost.evil.example/callback", false, false},
		{"cursor://anysphere.cursor-mcp/oauth/callback/x", false, false},
		{"cursor://evil/oauth/callback", false, false},
		{"myapp://callback/done2", false, false},
		{"javascript://claude.ai/%0aalert(1)", false, false},
		{"http://localhost/cb?code=mine", false, false},
		{"http://localhost/cb?x=1&state=mine", false, false},
		{"https://agent.example/cb?%63ode=mine", false, false},
		{"https://agent.example/cb?a=1;b=2", false, false},
		{"", false, false},
	} {
		for kind, ok := range map[Kind]bool{Registered: row.registered, Published: row.published} {
			kept, dropped, err := p.choose(kind, []string{row.uri})
			if err != nil || (len(kept) == 1) != ok || len(kept)+len(dropped) != 1 {
				t.Errorf("%s %q: kept %q, dropped %q, %v", kind, row.uri, kept, dropped, err)
			}
		}
	}
}

// TestPatternsOfTheOperator: an addition that could send codes to an unexpected place is
// refused with a reason.
func TestPatternsOfTheOperator(t *testing.T) {
	for _, pattern := range []string{
		"https://*.example.com/cb", "https://example.com/*/cb", "https://example.com/cb*", "*", "https://*", "https://example.com/**",
		"http://example.com/cb", "javascript://example.com/", "data://x/", "https://EXAMPLE.com/cb", "https://example/cb",
		"https://192.0.2.1/cb", "https://user@example.com/cb", "myapp://user@callback/", "https://example.com/cb#x", "example.com/cb", "",
	} {
		if err := CheckPattern(pattern); err == nil {
			t.Errorf("%q was accepted", pattern)
		}
	}
	for _, pattern := range append([]string{"https://example.com/cb", "https://example.com:8443/cb/*", "com.example.app://cb/"}, KnownRedirectURIs...) {
		if err := CheckPattern(pattern); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// TestTarget: a page shows where the browser is sent, whatever a URI looks like.
func TestTarget(t *testing.T) {
	for uri, want := range map[string]string{
		"https://claude.ai/api/mcp/auth_callback":      "claude.ai",
		"https://agent.example:8443/cb":                "agent.example:8443",
		"http://127.0.0.1:33418/":                      "127.0.0.1",
		"http://[::1]:5/cb":                            "[::1]",
		"http://localhost:5/cb":                        "localhost",
		"cursor://anysphere.cursor-mcp/oauth/callback": "cursor://anysphere.cursor-mcp",
	} {
		if got := Target(uri); got != want {
			t.Errorf("%s: %q", uri, got)
		}
	}
	if got := (&Client{ID: "https://claude.ai/oauth/mcp-oauth-client-metadata"}).Host(); got != "claude.ai" {
		t.Errorf("host %q", got)
	}
	if got := (&Client{ID: "fbclient_1"}).Host(); got != "" {
		t.Errorf("host %q", got)
	}
}

// TestDisplayName: a claimed name cannot change how a page or a terminal shows it.
func TestDisplayName(t *testing.T) {
	for name, want := range map[string]string{
		"Claude":                   "Claude",
		"  Visual\tStudio\n Code ": "Visual Studio Code",
		"a\u202eb\u2066c\u200bd":   "abcd",
		"a\x1b[31mb":               "a[31mb",
		"Ünïcode ⚡":                "Ünïcode ⚡",
		strings.Repeat("é", 200):   strings.Repeat("é", maxName/2),
	} {
		if got := displayName(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}
