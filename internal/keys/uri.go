package keys

import (
	"net/url"
	"strings"
)

// accessTokenParam is the parameter with an access token in a URL (RFC 6750, 2.3). MCP
// forbids such tokens (MCP 2025-11-25, authorization, "Access Token Usage").
const accessTokenParam = "access_token="

// ConcealURI returns a request's URI without secrets, and whether the URI had any
// secrets. Percent-encoded secrets are found, too. It is safe for concurrent use.
func (f *Format) ConcealURI(uri string) (concealed string, found bool) {
	if strings.IndexByte(uri, '_') < 0 && strings.IndexByte(uri, '%') < 0 { // usually the URI has neither character, and then it has no secret
		return uri, false
	}
	concealed, found = f.Conceal(uri)
	if plain, err := url.QueryUnescape(concealed); err == nil && strings.IndexByte(uri, '%') >= 0 {
		if hidden, any := f.Conceal(plain); any {
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
