package accesslog

import "net/http"

// redactedByCaddy contains the headers that Caddy redacts unless log_credentials is on.
var redactedByCaddy = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Set-Cookie": true}

// Leaks reports whether Caddy's own record of the request would contain a key: in
// the URL, or in a header that Caddy does not redact.
func (a *Redactor) Leaks(r *http.Request) bool {
	if server := ServerOf(r); server == nil || server.Logs == nil {
		return false
	}
	if _, found := a.Secrets.ConcealURI(r.RequestURI); found {
		return true
	}
	for name, values := range r.Header {
		if redactedByCaddy[name] {
			continue
		}
		for _, value := range values {
			if _, found := a.Secrets.Conceal(value); found {
				return true
			}
		}
	}
	return false
}

// conceal removes keys from r, a copy of the request for the log.
func (a *Redactor) conceal(r *http.Request) {
	r.RequestURI, _ = a.Secrets.ConcealURI(r.RequestURI)
	for name, values := range r.Header {
		if a.Header.Matches(name) {
			r.Header[name] = []string{"REDACTED"}
			continue
		}
		for i := range values {
			values[i], _ = a.Secrets.Conceal(values[i])
		}
	}
}
