package caddymodule

import (
	"net/http"

	"github.com/fareboxhq/farebox/internal/exchange"
)

// redactedByCaddy are the headers whose values Caddy never logs, unless told to.
var redactedByCaddy = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Set-Cookie": true}

// leaks reports whether Caddy's own record of the request would have a key in
// it: in the URL, or in a header that Caddy does not know for one.
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

// conceal takes all that looks like a secret out of a copy of a request that is
// to be logged.
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
