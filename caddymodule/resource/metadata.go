package resource

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// document is a protected resource metadata document (RFC 9728, 2).
type document struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
}

// WriteMetadata writes the metadata document. If slash is true, the resource
// identifier in it ends with a slash. A client accepts a document only if the
// identifier in it is the one from which the client derived the URL of the document
// (RFC 9728, 3.3).
func (r *Resource) WriteMetadata(w http.ResponseWriter, slash bool) error {
	body, err := json.Marshal(document{
		Resource: r.identifier(slash), AuthorizationServers: r.servers, ScopesSupported: r.scopes,
		BearerMethods: []string{"header"}, Name: r.config.Name, Documentation: r.config.Documentation,
	})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	// The document is the same for all clients and changes only with the config. Its
	// lifetime is short, because it may name an authorization server that is no
	// longer trusted.
	h.Set("Cache-Control", "public, max-age=300")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // fails only if the client has left
	return nil
}

// List has the resources of a config, with one resource for each URL.
type List []*Resource

// Find returns the resource for a metadata request, or nil if there is no match. Its
// arguments are the request's host, and the part of the request's path after WellKnown.
// The second result reports whether the client used the identifier that ends with a
// slash. If no resource has the host, the path alone decides, because a proxy may have
// changed the host.
func (all List) Find(host, below string) (found *Resource, slash bool) {
	at := slices.DeleteFunc(slices.Clone(all), func(r *Resource) bool { return !r.IsAt(host) })
	if len(at) == 0 {
		at = all
	}
	plain := strings.TrimSuffix(below, "/")
	exactly := slices.DeleteFunc(slices.Clone(at), func(r *Resource) bool { return r.plain != plain })
	switch {
	case len(exactly) == 1:
		return exactly[0], strings.HasSuffix(below, "/")
	case plain == "" && len(at) == 1:
		// The request is for the metadata of the root. Clients try the root last, if
		// there is no document at the path of the resource (MCP 2025-11-25,
		// authorization).
		return at[0], at[0].slash
	}
	return nil, false
}

// IsAt reports whether a Host header names the resource's host, with or without the
// default port.
func (r *Resource) IsAt(host string) bool {
	usual := ":443"
	if strings.HasPrefix(r.origin, "http:") {
		usual = ":80"
	}
	return strings.EqualFold(strings.TrimSuffix(host, usual), r.host)
}
