package caddymodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/opening"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestEarnersAgree checks that a config is refused if a handler and a platform name
// different providers or fees for one server, in whichever order they are loaded.
func TestEarnersAgree(t *testing.T) {
	fee := &Fee{Share: "2.5%", Account: "operator"}
	handler := func() *Handler { return &Handler{Server: "weather", Provider: "acme", Fee: fee} }
	for _, c := range []struct {
		server PlatformServer
		ok     bool
	}{
		{PlatformServer{Server: "weather", Provider: "acme", Fee: &Fee{Share: "2.5%", Account: "operator"}}, true},
		{PlatformServer{Server: "mail", Provider: "other"}, true},
		{PlatformServer{Server: "weather", Provider: "other", Fee: fee}, false},
		{PlatformServer{Server: "weather", Provider: "acme"}, false},
		{PlatformServer{Server: "weather", Provider: "acme", Fee: &Fee{Share: "3%", Account: "operator"}}, false},
	} {
		platform := &Platform{Servers: []PlatformServer{c.server}}
		one, other := new(App), new(App)
		if err := one.register(handler()); err != nil {
			t.Fatal(err)
		}
		if err := one.registerPlatform(platform); (err == nil) != c.ok {
			t.Errorf("%+v after the handler: %v", c.server, err)
		}
		if err := other.registerPlatform(platform); err != nil {
			t.Fatal(err)
		}
		if err := other.register(handler()); (err == nil) != c.ok {
			t.Errorf("%+v before the handler: %v", c.server, err)
		}
	}
}

// TestPlatformWaits checks that the API answers 503 with a problem document until the
// store is open, and also if the access log would contain keys. In both cases, requests
// for other paths go to the next handler.
func TestPlatformWaits(t *testing.T) {
	p := &Platform{logger: slog.New(slog.DiscardHandler), running: opening.New(), app: &App{settings: &admin.Settings{Secrets: &keys.DefaultFormat}}}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for path, want := range map[string]int{
		"/api/v1": 503, "/api/v1/charge": 503, "/api/v1/docs": 503, "/api/v10/charge": 418, "/api": 418, "/": 418, "/x/api/v1/charge": 418,
	} {
		w := httptest.NewRecorder()
		if err := p.ServeHTTP(w, httptest.NewRequestWithContext(gone, "GET", path, nil), next); err != nil || w.Code != want {
			t.Errorf("%s: %d, %v; want %d", path, w.Code, err, want)
		}
		var problem wire.Problem
		if want != 503 {
			continue
		}
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Code != wire.Unavailable || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %s %v", path, w.Body, w.Header())
		}
	}
	server := &caddyhttp.Server{Logs: &caddyhttp.ServerLogConfig{ShouldLogCredentials: true}}
	p.running.Set(nil) // the runtime is nil, so only a request that is refused before it needs the runtime gets a response
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), caddyhttp.ServerCtxKey, server), "POST", "/api/v1/charge", strings.NewReader("{}"))
	if err := p.ServeHTTP(w, r, next); err != nil || w.Code != 503 {
		t.Errorf("where credentials are logged: %d, %v", w.Code, err)
	}
}
