package integration

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestServerCheckByItsRoute checks that the request of "server check" goes through the
// handlers behind farebox in the same route, even if the route is nested. So the
// request has the path and the headers that the config sets. Calls through the gateway
// work as before.
func TestServerCheckByItsRoute(t *testing.T) {
	t.Parallel()
	target, err := url.Parse(binaries.StartWeather(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host, p.Out.URL.Path = target.Host, "/mcp"
	}}
	var foreign atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/inner/place" {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer upstream" || r.Header.Get("X-Tenant") != "t" {
			foreign.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	site := harness.SiteWithProxy(s.URL, "server weather", "provider acme", "price get_forecast 0.01", "free list_cities", `upstream_authorization "Bearer upstream"`)
	// The path's prefix is stripped before the farebox handler, and a route after the
	// handler sets another path.
	site = strings.Replace(site, "handle /mcp* {", "handle_path /mcp* {", 1)
	site = strings.Replace(site, "reverse_proxy", "route {\n\t\t\trequest_header X-Tenant t\n\t\t\trewrite * /inner/place\n\t\t\treverse_proxy", 1)
	site = strings.Replace(site, "header_up Host {upstream_hostport}\n\t\t}", "header_up Host {upstream_hostport}\n\t\t\t}\n\t\t}", 1)
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "1.00")
	var view struct {
		Path  string
		Items []struct{ Name, State string }
	}
	g.CLI(t, &view, "server", "check", "weather")
	states := map[string]string{}
	for _, item := range view.Items {
		states[item.Name] = item.State
	}
	if states["get_forecast"] != "priced" || states["list_cities"] != "free" || states["watch_storm"] != "hidden" || foreign.Load() > 0 {
		t.Errorf("%+v; %d requests without their headers", view, foreign.Load())
	}
	if answer := post(t, g, key.Secret, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`); answer.Result == nil {
		t.Errorf("a client: %d %s", answer.Status, answer.Body)
	}
	var list []struct{ Upstreams []string }
	g.CLI(t, &list, "server", "list")
	if len(list) != 1 || len(list[0].Upstreams) != 1 || "http://"+list[0].Upstreams[0] != s.URL {
		t.Errorf("%+v", list)
	}
	if charges := g.Charges(t, "alice"); len(charges) != 0 {
		t.Errorf("charges %+v", charges)
	}
}
