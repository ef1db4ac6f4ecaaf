package console

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/console"
)

// TestPlainRequests checks that the console answers neither a request without TLS nor a
// request for another host. ServeHTTP must not return an error for such a request,
// because Caddy would log the error together with the link of an invitation.
func TestPlainRequests(t *testing.T) {
	address, err := url.Parse("https://gateway.example.com/console")
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{address: address}
	if h.console, err = console.New(console.Options{Address: address, Operations: http.NotFoundHandler()}); err != nil {
		t.Fatal(err)
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	for target, want := range map[string]int{
		"http://gateway.example.com/console/invite/fbi_x": http.StatusForbidden,
		"http://gateway.example.com/console/signin":       http.StatusForbidden,
		"http://gateway.example.com/elsewhere":            http.StatusTeapot,
		"http://rebound.example.net/console/signin":       http.StatusTeapot,
		"http://gateway.example.com:8443/console/signin":  http.StatusTeapot,
	} {
		vars := map[string]any{}
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), caddyhttp.VarsCtxKey, vars), http.MethodGet, target, nil)
		r.Header.Set("X-Forwarded-Proto", "https") // must have no effect, because the request does not come from a trusted proxy
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, next); err != nil || w.Code != want {
			t.Errorf("%s: %d, %v; want %d", target, w.Code, err, want)
		}
		if skipped := vars[caddyhttp.LogSkipVar] == true; skipped != strings.Contains(target, "/invite/") {
			t.Errorf("%s: left out of the access log is %t", target, skipped)
		}
	}
}
