package caddymodule

import (
	"net/http"

	"github.com/fareboxhq/farebox/internal/exchange"
)

// redactedByCaddy are the headers that Caddy redacts unless log_credentials is on.
var redactedByCaddy = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Set-Cookie": true}

// leaks reports whether Caddy's own record of the request would contain a key: in
// the URL, or in a header that Caddy does not redact.
func (h *Handler) leaks(r *http.Request) bool {
	if server := serverOf(r); server == nil || server.Logs == nil {
		return false
	}
	if _, found := exchange.ConcealURI(h.site.Secrets, r.RequestURI); found {
		return true
	}
	for name, values := range r.Header {
		if redactedByCaddy[name] {
			continue
		}
		for _, value := range values {
			if _, found := h.site.Secrets.Conceal(value); found {
				return true
			}
		}
	}
	return false
}

// conceal removes secrets from a copy of a request for the log.
func (h *Handler) conceal(r *http.Request) {
	r.RequestURI, _ = exchange.ConcealURI(h.site.Secrets, r.RequestURI)
	for name, values := range r.Header {
		if h.site.KeyHeader.Matches(name) {
			r.Header[name] = []string{"REDACTED"}
			continue
		}
		for i := range values {
			values[i], _ = h.site.Secrets.Conceal(values[i])
		}
	}
}
