package client

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRedirect: a redirect URI that is accepted without being registered is, for a URL
// parser too, an http address of loopback with the path and query of a registered one.
func FuzzRedirect(f *testing.F) {
	registered := []string{"https://agent.example/cb", "http://127.0.0.1/", "http://[::1]:7/a?b=c", "http://localhost/callback", "cursor://x/y"}
	c := &Client{RedirectURIs: registered}
	for _, uri := range append([]string{"http://localhost:5/callback", "http://127.0.0.1:80@evil.example/", "http://[::1]/a?b=c"}, registered...) {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := c.Redirect(uri)
		if err != nil {
			return
		}
		if got != uri {
			t.Fatalf("%q became %q", uri, got)
		}
		if slices.Contains(registered, uri) {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Fatalf("%q: %+v, %v", uri, u, err)
		}
		if !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()) {
			t.Fatalf("%q leads to %q", uri, u.Hostname())
		}
		if !slices.ContainsFunc(registered, func(r string) bool {
			p, err := url.Parse(r)
			return err == nil && p.Hostname() == u.Hostname() && "/"+strings.TrimPrefix(p.EscapedPath(), "/") == "/"+strings.TrimPrefix(u.EscapedPath(), "/") && p.RawQuery == u.RawQuery
		}) {
			t.Fatalf("%q is no loopback URI of the client", uri)
		}
	})
}

// FuzzPolicy: whatever a stranger registers leads to loopback or to a known place.
func FuzzPolicy(f *testing.F) {
	p, err := newPolicy(nil, false)
	if err != nil {
		f.Fatal(err)
	}
	for _, uri := range KnownRedirectURIs {
		f.Add(strings.TrimSuffix(uri, "*") + "x")
	}
	f.Add("http://localhost:1/x")
	hosts := []string{"127.0.0.1", "::1", "localhost"}
	for _, uri := range KnownRedirectURIs {
		u, err := url.Parse(uri)
		if err != nil {
			f.Fatal(err)
		}
		hosts = append(hosts, u.Hostname())
	}
	f.Fuzz(func(t *testing.T, uri string) {
		kept, _, err := p.choose(Registered, []string{uri})
		if err != nil || len(kept) == 0 {
			return
		}
		if u, err := url.Parse(uri); err != nil || !slices.Contains(hosts, u.Hostname()) || u.User != nil {
			t.Fatalf("%q leads to %+v, %v", uri, u, err)
		}
	})
}

// FuzzRegistration: no body makes a registration that cannot be read again, or that has a
// redirect URI which is not allowed.
func FuzzRegistration(f *testing.F) {
	p, err := newPolicy(nil, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"redirect_uris": ["http://localhost/cb"], "client_name": "x", "grant_types": ["authorization_code"]}`))
	f.Add([]byte(`{"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/k"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parse(body)
		if err != nil {
			return
		}
		if _, err := m.accept(p); err != nil {
			return
		}
		again, err := parse(m.encode())
		if err != nil {
			t.Fatalf("%s: %v", m.encode(), err)
		}
		kept, dropped, err := p.choose(Registered, again.URIs)
		if err != nil || len(dropped) > 0 || !slices.Equal(kept, m.URIs) || !slices.Equal(again.Grants, m.Grants) || again.Method != m.Method {
			t.Fatalf("%s: %q, %q, %v", m.encode(), kept, dropped, err)
		}
	})
}
