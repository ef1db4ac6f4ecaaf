package caddymodule

import (
	"context"
	"log/slog"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fareboxhq/farebox/caddymodule/accesslog"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestRewritingProxyIsNotFollowed checks that RewritesAfter finds a proxy that rewrites
// paths, behind the handler and at any depth of routes. A redirect is then not
// followed, because the redirected request could reach the same path again.
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

// TestAnnotations checks that an attribute reaches the access log as a field of the
// same kind, and replaces an older field with the same key. An amount is logged as
// text.
func TestAnnotations(t *testing.T) {
	core, logged := observer.New(zapcore.InfoLevel)
	r := httptest.NewRequest("POST", "/mcp", nil)
	ctx := context.WithValue(r.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields))
	ctx = context.WithValue(ctx, caddyhttp.ServerCtxKey, &caddyhttp.Server{Logs: new(caddyhttp.ServerLogConfig)})
	r = r.WithContext(context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{}))
	redactor := accesslog.Redactor{Secrets: &keys.DefaultFormat, Access: zap.New(core)}
	record, _ := redactor.Begin(httptest.NewRecorder(), r)
	c := &host{record: record}
	c.Annotate(r, slog.String("farebox_tool", "old"))
	c.Annotate(r, slog.String("farebox_tool", "t"))
	c.Annotate(r, slog.Bool("farebox_charged", true))
	c.Annotate(r, slog.Any("farebox_price", ledger.Amount(10_000)))
	record.Write(0, "")
	fields := make(map[string]any)
	count := 0
	for _, f := range logged.All()[0].Context {
		if strings.HasPrefix(f.Key, "farebox_") {
			encoder := zapcore.NewMapObjectEncoder()
			f.AddTo(encoder)
			maps.Copy(fields, encoder.Fields)
			count++
		}
	}
	want := map[string]any{"farebox_tool": "t", "farebox_charged": true, "farebox_price": "0.01"}
	if count != len(want) || !maps.Equal(fields, want) {
		t.Errorf("the record has %v; want %v", fields, want)
	}
}
