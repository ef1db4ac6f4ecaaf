package resource

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// document is protected resource metadata (RFC 9728, 2).
type document struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
}

// WriteMetadata writes the document with the identifier in the form that the
// client derived its URL from: it accepts no other (RFC 9728, 3.3).
func (r *Resource) WriteMetadata(w http.ResponseWriter, slash bool) error {
	body, err := json.Marshal(document{
		Resource: r.identifier(slash), AuthorizationServers: r.config.AuthorizationServers, ScopesSupported: r.scopes,
		BearerMethods: []string{"header"}, Name: r.config.Name, Documentation: r.config.Documentation,
	})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	// It is the same for everybody, and changes with the config alone. The time is
	// short, because a document may name an authorization server that is no longer
	// trusted.
	h.Set("Cache-Control", "public, max-age=300")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // client gone; nothing useful to do with the error
	return nil
}

// List has the resources of a config, each URL once.
type List []*Resource

// Find returns the resource that a request at that host asks for below the
// well-known path, and the form of its identifier; nil if it is unknown. A proxy
// may have changed the host: if no resource has it, the path decides.
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
		// Clients look here last, if a resource has no document at its own path
		// (MCP 2025-11-25, authorization).
		return at[0], at[0].slash
	}
	return nil, false
}

// IsAt reports whether a Host header names the resource's host.
func (r *Resource) IsAt(host string) bool {
	usual := ":443"
	if strings.HasPrefix(r.origin, "http:") {
		usual = ":80"
	}
	return strings.EqualFold(strings.TrimSuffix(host, usual), r.host)
}
