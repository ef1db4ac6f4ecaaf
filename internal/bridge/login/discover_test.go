package login

import (
	"net/url"
	"strings"
	"testing"
)

// TestMetadataAreChecked checks that nobody is sent to a page, and no token is asked for,
// on the word of metadata that could lead a token astray.
func TestMetadataAreChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*authority)
		want   string
	}{
		"another resource":     {func(a *authority) { a.resource = "https://bank.example.com/mcp" }, "metadata of"},
		"another path":         {func(a *authority) { a.resource = a.url + "/mcp2" }, "metadata of"},
		"another issuer":       {func(a *authority) { a.meta["issuer"] = "https://bank.example.com" }, "does not match"},
		"no PKCE":              {func(a *authority) { a.meta["code_challenge_methods_supported"] = []string{"plain"} }, "PKCE"},
		"no encryption":        {func(a *authority) { a.meta["token_endpoint"] = "http://bank.example.com/token" }, "cannot be used"},
		"no encrypted revoke":  {func(a *authority) { a.meta["revocation_endpoint"] = "http://bank.example.com/revoke" }, "cannot be used"},
		"a script":             {func(a *authority) { a.meta["authorization_endpoint"] = "javascript:alert(1)" }, "cannot be used"},
		"no registration":      {func(a *authority) { a.meta["registration_endpoint"] = "" }, "--client-id"},
		"a file":               {func(a *authority) { a.meta["authorization_endpoint"] = "file:///etc/passwd" }, "cannot be used"},
		"too long":             {func(a *authority) { a.meta["issuer"] = strings.Repeat("x", 2<<20) }, "cannot be used"},
		"whole origin (is ok)": {func(a *authority) { a.resource = a.url }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			test.change(a)
			r := newRig(t, a, t.TempDir(), nil)
			err := r.SignIn(t.Context(), "", []string{a.challenge()})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || len(r.pages) != 0 || len(a.forms) != 0 {
				t.Errorf("%v; %d pages, %d token requests", err, len(r.pages), len(a.forms))
			}
		})
	}
}

// TestCheck checks the addresses to which requests may go.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		server, address string
		ok              bool
	}{
		{"https://mcp.example.com/", "https://as.example.com/token", true},
		{"https://mcp.example.com/", "http://as.example.com/token", false},
		{"https://mcp.example.com/", "http://127.0.0.1:631/", false},
		{"https://mcp.example.com/", "https://localhost/", false},
		{"https://mcp.example.com/", "https://user@as.example.com/", false},
		{"https://mcp.example.com/", "//as.example.com/", false},
		{"http://localhost:1/", "http://[::1]:2/token", true},
		{"http://localhost:1/", "http://as.example.com/", false},
	} {
		u, err := url.Parse(test.server)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Options{Server: u})
		if err := s.check(test.address); (err == nil) != test.ok {
			t.Errorf("%s at %s: %v", test.address, test.server, err)
		}
	}
}

// TestCovers checks that a token for another origin or path is not one for the server.
func TestCovers(t *testing.T) {
	t.Parallel()
	server, err := url.Parse("https://mcp.example.com/a/mcp")
	if err != nil {
		t.Fatal(err)
	}
	for resource, want := range map[string]bool{
		"https://mcp.example.com/a/mcp": true, "https://mcp.example.com/a/mcp/": true, "https://MCP.example.com/a": true, "https://mcp.example.com": true,
		"https://mcp.example.com/a/mcp/x": false, "https://mcp.example.com/a/mc": false, "http://mcp.example.com/a/mcp": false,
		"https://mcp.example.com:8443/a/mcp": false, "https://mcp.example.com.evil.org/": false, "": false, "https://x@mcp.example.com/": false,
		"https://mcp.example.com/a/mcp?x=1": false, "https://mcp.example.com/#f": false,
	} {
		if got := covers(resource, server); got != want {
			t.Errorf("%q: %t", resource, got)
		}
	}
}

// TestChallenge checks that challenges of other schemes, and ones that cannot be read, do
// not hide the one for OAuth.
func TestChallenge(t *testing.T) {
	t.Parallel()
	c := readChallenge([]string{`Negotiate abc==`, `Basic realm="x"`, `Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x/y"`})
	if c.metadata != "https://x/y" || !c.lacksScope() || len(c.scopes) != 2 {
		t.Errorf("%+v", c)
	}
	if c := readChallenge(nil); c.metadata != "" || c.lacksScope() {
		t.Errorf("%+v", c)
	}
}

// TestOpener checks that no browser is looked for where no display is.
func TestOpener(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	display := func(name string) string { return map[string]string{"DISPLAY": ":0"}[name] }
	if _, _, err := opener("linux", none); err == nil {
		t.Error("a browser without a display")
	}
	for system, want := range map[string]string{"linux": "xdg-open", "darwin": "open", "windows": "rundll32"} {
		if got, _, err := opener(system, display); err != nil || got != want {
			t.Errorf("%s: %s, %v", system, got, err)
		}
	}
}
