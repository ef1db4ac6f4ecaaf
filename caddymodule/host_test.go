package caddymodule

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// A redirect is not followed if a proxy behind the handler rewrites paths: it could
// lead to the same place again.
func TestRewritingProxyIsNotFollowed(t *testing.T) {
	h, other := new(Handler), new(Handler)
	proxy := func(rewrites bool) *reverseproxy.Handler {
		p := new(reverseproxy.Handler)
		if rewrites {
			p.Rewrite = new(rewrite.Rewrite)
		}
		return p
	}
	route := func(handlers ...caddyhttp.MiddlewareHandler) caddyhttp.Route {
		return caddyhttp.Route{Handlers: handlers}
	}
	sub := func(routes ...caddyhttp.Route) caddyhttp.MiddlewareHandler {
		return &caddyhttp.Subroute{Routes: routes}
	}
	for name, c := range map[string]struct {
		routes caddyhttp.RouteList
		want   bool
	}{
		"plain":     {caddyhttp.RouteList{route(h, proxy(false))}, false},
		"rewriting": {caddyhttp.RouteList{route(sub(route(h), route(sub(route(proxy(true))))))}, true},
		"before":    {caddyhttp.RouteList{route(other, proxy(true)), route(h, proxy(false))}, false},
	} {
		r := httptest.NewRequest("POST", "http://mcp.example.com/mcp", nil)
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ServerCtxKey, &caddyhttp.Server{Routes: c.routes}))
		if got := (&host{h: h}).RewritesAfter(r); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
