package caddymodule

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/keys"
)

// accessTokenParam brings an access token in a URL (RFC 6750, 2.3), which MCP
// forbids (2025-11-25, authorization, "Access Token Usage").
const accessTokenParam = "access_token="

var errKeyInURL = errors.New("the key stands in the URL")

// concealURI returns a request's URI without what looks like a secret in it,
// and whether there was any. What hides behind percent-encoding is found too.
func concealURI(secrets *keys.Format, uri string) (concealed string, found bool) {
	if strings.IndexByte(uri, '_') < 0 && strings.IndexByte(uri, '%') < 0 { // as of most
		return uri, false
	}
	concealed, found = secrets.Conceal(uri)
	if plain, err := url.QueryUnescape(concealed); err == nil && strings.IndexByte(uri, '%') >= 0 {
		if hidden, any := secrets.Conceal(plain); any {
			concealed, found = hidden, true
		}
	}
	path, query, _ := strings.Cut(concealed, "?")
	if !strings.Contains(query, accessTokenParam) {
		return concealed, found
	}
	params := strings.Split(query, "&")
	for i, param := range params {
		if strings.HasPrefix(param, accessTokenParam) {
			params[i], found = accessTokenParam+"REDACTED", true
		}
	}
	return path + "?" + strings.Join(params, "&"), found
}

// redactedByCaddy are the headers whose values Caddy never logs, unless told to.
var redactedByCaddy = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Set-Cookie": true}

// leaks reports whether Caddy's own record of the request would have a key in
// it: in the URL, or in a header that Caddy does not know for one.
func (h *Handler) leaks(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Logs == nil {
		return false
	}
	if _, found := concealURI(h.secrets, r.RequestURI); found {
		return true
	}
	for name, values := range r.Header {
		if redactedByCaddy[name] {
			continue
		}
		for _, value := range values {
			if _, found := h.secrets.Conceal(value); found {
				return true
			}
		}
	}
	return false
}

// conceal takes all that looks like a secret out of a copy of a request that is
// to be logged.
func (h *Handler) conceal(r *http.Request) {
	r.RequestURI, _ = concealURI(h.secrets, r.RequestURI)
	for name, values := range r.Header {
		if h.credential.base != "" && spelled(name) == h.credential.base {
			r.Header[name] = []string{"REDACTED"}
			continue
		}
		for i := range values {
			values[i], _ = h.secrets.Conceal(values[i])
		}
	}
}
