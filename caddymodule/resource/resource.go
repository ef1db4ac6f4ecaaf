package resource

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Resource is a handler's MCP server as an OAuth protected resource. It is
// immutable.
type Resource struct {
	server  string
	config  *OAuth
	origin  string   // scheme, host and port of the configured URL
	host    string   // host and port of the configured URL
	path    string   // path of the configured URL (escaped), without a trailing slash
	plain   string   // the decoded form of the field path, for comparison with requests
	slash   bool     // whether the configured URL ends with a slash
	scopes  []string // the scopes in the metadata, as scopes_supported
	needs   []string // the scopes in the challenge of a 401
	servers []string // the issuers in the metadata
}

// WellKnown is the path of the metadata of a resource without a path. Other
// resources have their metadata below it (RFC 9728, 3).
const WellKnown = "/.well-known/oauth-protected-resource"

// IssuerPath is the path of the issuers of a host. The issuer of each server has a path
// below it.
const IssuerPath = "/oauth/"

// Own reports whether the gateway itself is the authorization server of the resource.
func (r *Resource) Own() bool { return len(r.config.AuthorizationServers) == 0 }

// Issuer returns the identifier of the gateway's own issuer for the resource.
func (r *Resource) Issuer() string { return r.origin + IssuerPath + r.server }

// Server returns the name of the MCP server.
func (r *Resource) Server() string { return r.server }

// Title returns the name of the MCP server for people.
func (r *Resource) Title() string { return cmp.Or(r.config.Name, r.server) }

// Identifier returns the resource identifier as it is configured.
func (r *Resource) Identifier() string { return r.config.Resource }

// Scopes returns the scopes in the metadata.
func (r *Resource) Scopes() []string { return r.scopes }

// Needs returns the scopes named in the challenge to an unknown client.
func (r *Resource) Needs() []string { return r.needs }

// identifier returns the resource identifier, with or without a trailing slash.
func (r *Resource) identifier(slash bool) string { return r.origin + ended(r.path, slash) }

// MetadataURL returns the URL of the metadata for the identifier with or without a
// trailing slash (RFC 9728, 3.1).
func (r *Resource) MetadataURL(slash bool) string {
	return r.origin + WellKnown + ended(r.path, slash)
}

// Asked reports whether a request has used the resource's URL with a trailing slash.
// Two kinds of requests do not show that: those for the root, because a request's
// path is never empty, and those behind a proxy that has changed the path. For them
// the configured form of the URL decides.
func (r *Resource) Asked(req *http.Request) (slash bool) {
	called := req.URL.Path
	if original, ok := req.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		called = original.URL.Path
	}
	switch {
	case r.plain == "":
		return r.slash
	case called == r.plain:
		return false
	case called == r.plain+"/":
		return true
	}
	return r.slash
}

func ended(path string, slash bool) string {
	if slash {
		return path + "/"
	}
	return path
}

// SameURL reports whether two resources have the same host and path. A trailing
// slash makes no difference.
func (r *Resource) SameURL(other *Resource) bool {
	return r.host == other.host && r.plain == other.plain
}

// Agrees returns an error if two resources have the same URL but different servers
// or metadata. Either may be nil.
func (r *Resource) Agrees(other *Resource) error {
	if r == nil || other == nil || !r.SameURL(other) {
		return nil
	}
	if r.server != other.server {
		return fmt.Errorf("oauth: the resource %s is configured for the servers %q and %q", r.config.Resource, other.server, r.server)
	}
	if !reflect.DeepEqual(r.config, other.config) {
		return fmt.Errorf("oauth: the resource %s of server %q is configured twice, with different contents", r.config.Resource, r.server)
	}
	return nil
}
