package exchange

import (
	"encoding/json"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// leadsToOAuth reports whether the challenge of a refusal should lead the client to the
// authorization server. It should if the request has no credential, or a token that an
// authorization server has issued. It should not if the request has a key that a person
// has created: many clients would then report a problem of OAuth in place of the key's.
func (x *Exchange) leadsToOAuth() bool {
	if x.caller.Known() {
		return x.byToken()
	}
	for _, text := range x.r.Header.Values("Authorization") {
		if _, token, _ := strings.Cut(text, " "); x.site.Secrets.Created(strings.TrimSpace(token)) {
			return false
		}
	}
	if x.site.KeyHeader.IsSet() {
		for _, text := range x.r.Header.Values(x.site.KeyHeader.canonical) {
			if x.site.Secrets.Created(text) {
				return false
			}
		}
	}
	return true
}

// byToken reports whether the caller has shown a token of an authorization server.
func (x *Exchange) byToken() bool {
	return x.caller.Known() && (x.caller.Key == nil || x.caller.Key.Kind.Rules().Token != "")
}

// stepsUp reports whether the caller can ask its authorization server for more scopes.
// Such a caller gets the status 403 for a missing scope (MCP 2025-11-25, authorization,
// "Step-Up Authorization Flow").
func (x *Exchange) stepsUp() bool { return x.site.Resource != nil && x.byToken() }

// stepUpField returns the challenge as the member of _meta in which ChatGPT looks for it
// before it links an account.
func (x *Exchange) stepUpField(f *refusalForm, r *gate.Refusal) mcp.Field {
	value, err := json.Marshal([]string{x.challenge(f, r)})
	if err != nil {
		panic(err) // cannot happen, because strings always encode
	}
	return mcp.Field{Name: "mcp/www_authenticate", Value: value}
}
