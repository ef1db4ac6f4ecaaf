package caddymodule

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestKeysStayOutOfLogs checks that a request with a key in its URL is refused, even if
// it has a valid Authorization header. A key in a URL or in a wrong header must not
// reach the access log.
func TestKeysStayOutOfLogs(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"good"}}`
	for name, credentials := range map[string]map[string]any{"in Authorization alone": nil, "in a header of its own": {"header": "X-API-Key"}} {
		t.Run(name, func(t *testing.T) {
			s := newLoggedSiteWith(t, credentials)
			digits := strings.TrimPrefix(s.secret, "sk_live_")
			bearer := http.Header{"Authorization": {"Bearer " + s.secret}}
			url := s.url
			for _, place := range []string{
				"?api_key=" + s.secret, "/" + s.secret, "?k=sk%5Flive%5F" + digits, "?a=1&access_token=" + digits, "?key=" + s.secret[:40],
			} {
				s.url = url + place
				resp, body, err := s.post(t.Context(), call, bearer)
				if err != nil || !strings.Contains(body, "the URL has a key in it") || resp.Header.Get("X-Farebox-Error") != "TOKEN_INVALID" && resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: %v, %v", body, resp, err)
				}
				s.line(t, "handled request", func(r map[string]any) bool {
					uri, _ := r["request"].(map[string]any)["uri"].(string)
					return strings.Contains(uri, "REDACTED") || strings.Contains(uri, "sk_live_REDACTED")
				})
				if err := os.Truncate(s.log, 0); err != nil {
					t.Fatal(err)
				}
			}
			s.url = url
			header := bearer.Clone()
			header["X-Auth-Token"], header["Referer"] = []string{s.secret}, []string{"https://a.example/?key=" + s.secret}
			if _, body, err := s.post(t.Context(), call, header); err != nil || strings.Contains(body, "error") {
				t.Errorf("a key in another header, too: %s, %v", body, err)
			}
			record := s.line(t, "handled request", func(map[string]any) bool { return true })
			text, err := json.Marshal(record)
			if err != nil || strings.Contains(string(text), digits[:16]) || strings.Count(string(text), "sk_live_REDACTED") != 2 {
				t.Errorf("the log has %s, %v", text, err)
			}
		})
	}
}

// TestSites checks that a config is refused if no call reaches a farebox handler, or
// if nothing behind the handler answers. The order in which Caddy provisions its
// servers must not matter.
func TestSites(t *testing.T) {
	const (
		paid  = `{"handler":"farebox","server":"weather","provider":"acme"}`
		proxy = `{"handler":"reverse_proxy","upstreams":[{"dial":"localhost:1"}]}`
		file  = `{"handler":"file_server"}`
		pass  = `{"handler":"file_server","pass_thru":true}`
		head  = `{"handler":"headers"}`
	)
	const never, nothing = "no call ever comes to it", "nothing after it answers"
	route := func(handlers ...string) string { return `{"handle":[` + strings.Join(handlers, ",") + `]}` }
	at := func(path string, handlers ...string) string {
		return `{"group":"g","match":[{"path":["` + path + `"]}],"handle":[` + strings.Join(handlers, ",") + `]}`
	}
	sub := func(routes ...string) string {
		return `{"handler":"subroute","routes":[` + strings.Join(routes, ",") + `]}`
	}
	for name, c := range map[string]struct{ routes, want string }{
		"alone":                      {route(paid), nothing},
		"before what passes":         {route(paid, head), nothing},
		"before a proxy":             {route(paid, head, proxy), ""},
		"before files that may pass": {route(paid, pass), ""},
		"before another route":       {route(paid) + "," + route(proxy), ""},
		"in a terminal route":        {`{"terminal":true,"handle":[` + paid + `]},` + route(proxy), nothing},
		"in a subroute":              {route(sub(route(paid)), proxy), ""},
		"in a subroute, alone":       {route(sub(route(sub(route(paid))), route(head))), nothing},
		"after a proxy":              {route(proxy, paid, proxy), never},
		"after a route that answers": {route(file) + "," + route(paid, proxy), never},
		"after files that may pass":  {route(pass) + "," + route(paid, proxy), ""},
		"after one subroute":         {route(sub(route(proxy)), paid, proxy), never},
		"after another path":         {at("/x", proxy) + "," + route(paid, proxy), ""},
		"after the same path":        {at("/x", proxy) + "," + at("/x", paid, proxy), never},
		"after its group's rest":     {`{"group":"g","handle":[` + proxy + `]},` + at("/x", paid, proxy), never},
		"before its group's rest":    {at("/x", paid) + "," + `{"group":"g","handle":[` + proxy + `]}`, nothing},
		"beside its group's rest":    {at("/x", paid, proxy) + "," + `{"group":"g","handle":[` + proxy + `]}`, ""},
	} {
		for range 4 {
			text := `{"admin":{"disabled":true},"apps":{"farebox":{"store":{"path":"` + t.TempDir() + `/f.db"}},"http":{"servers":{` +
				`"a":{"listen":["127.0.0.1:1"],"routes":[` + c.routes + `]},"b":{"listen":["127.0.0.1:2"],"routes":[` + route(paid, file) + `]}}}}}`
			var config caddy.Config
			if err := json.Unmarshal([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
