package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/exchange"
)

func init() {
	caddy.RegisterModule(new(Metadata))
}

// Metadata answers clients' requests beside those to servers. It serves the
// OAuth 2.0 protected resource metadata (RFC 9728) of all servers of the config
// that have `oauth`, at `/.well-known/oauth-protected-resource` and below. To
// clients that want to register with an authorization server, by a POST to
// `/register`, it says that the gateway takes a key, unless the rest of the site
// answers them, or a server at that host has `oauth`. Other requests go on to the
// next handler. It must receive requests for those paths, so it stands outside
// routes for a server's own path.
type Metadata struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (*Metadata) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_metadata", New: func() caddy.Module { return new(Metadata) }}
}

// Provision registers the handler with the app.
func (m *Metadata) Provision(ctx caddy.Context) error {
	loaded, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	m.app = loaded.(*App)
	m.app.mu.Lock()
	defer m.app.mu.Unlock()
	m.app.hasMetadata = true
	return nil
}

func parseMetadata(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // the directive's name
	if h.NextArg() {
		return nil, h.Errf("farebox_metadata takes no arguments, not %q", h.Val())
	}
	if h.NextBlock(0) {
		return nil, h.Err("farebox_metadata has no block: what it serves stands in oauth, in the farebox directives")
	}
	return new(Metadata), nil
}

const wellKnownResource = "/.well-known/oauth-protected-resource"

const metadataMethods = "GET, HEAD, OPTIONS"

// ServeHTTP serves the document that the path asks for.
func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if exchange.IsRegistration(r) {
		return m.serveRegistration(w, r, next)
	}
	below, ok := strings.CutPrefix(r.URL.Path, wellKnownResource)
	if !ok || below != "" && below[0] != '/' {
		return next.ServeHTTP(w, r)
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // it is public, and pages read it before they have anything else
	found, slash := m.app.resources().find(r.Host, below)
	if found == nil {
		return caddyhttp.Error(http.StatusNotFound, exchange.ErrNoMetadata)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return found.writeMetadata(w, slash)
	case http.MethodOptions:
		h.Set("Allow", metadataMethods)
		h.Set("Access-Control-Allow-Methods", metadataMethods)
		h.Set("Access-Control-Allow-Headers", "*") // clients send their protocol version
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h.Set("Allow", metadataMethods)
	return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("the method is %s, not one of %s", r.Method, metadataMethods))
}

// document is protected resource metadata (RFC 9728, 2).
type document struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
}

// writeMetadata writes the document with the identifier in the form that the
// client derived its URL from: it accepts no other (RFC 9728, 3.3).
func (r *resource) writeMetadata(w http.ResponseWriter, slash bool) error {
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

// resources are those of a config, each URL once.
type resources []*resource

// resources returns those of all handlers. It may be called once all of them
// have registered, which is before anything is served.
func (a *App) resources() resources {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all resources
	for _, h := range a.handlers {
		if h.resource != nil && !slices.ContainsFunc(all, h.resource.sameURL) {
			all = append(all, h.resource)
		}
	}
	return all
}

// find returns the resource that a request at that host asks for below the
// well-known path, and the form of its identifier; nil if it is unknown. A proxy
// may have changed the host: if no resource has it, the path decides.
func (all resources) find(host, below string) (found *resource, slash bool) {
	at := slices.DeleteFunc(slices.Clone(all), func(r *resource) bool { return !r.isAt(host) })
	if len(at) == 0 {
		at = all
	}
	plain := strings.TrimSuffix(below, "/")
	exactly := slices.DeleteFunc(slices.Clone(at), func(r *resource) bool { return r.plain != plain })
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

// isAt reports whether a Host header names the resource's host.
func (r *resource) isAt(host string) bool {
	usual := ":443"
	if strings.HasPrefix(r.origin, "http:") {
		usual = ":80"
	}
	return strings.EqualFold(strings.TrimSuffix(host, usual), r.host)
}

// needMetadata returns an error if a server has oauth and no handler serves its
// metadata. With pending, Caddy may still come to one.
func (a *App) needMetadata(pending bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hasMetadata || pending {
		return nil
	}
	for _, h := range a.handlers {
		if h.resource != nil {
			return fmt.Errorf("%s has oauth, and nothing serves its metadata: add the line farebox_metadata to the site, beside the handle blocks and not in one (in JSON, the handler farebox_metadata)", h.title())
		}
	}
	return nil
}

// metadataPending reports whether the config has a handler for metadata that Caddy
// may not have provisioned yet. No hook after the last handler runs in "caddy
// validate", too; but the HTTP app keeps the text of a list of handlers until the
// whole list has been provisioned.
func metadataPending(ctx caddy.Context) bool {
	for _, module := range ctx.Modules() {
		if app, ok := module.(*caddyhttp.App); ok {
			text, err := json.Marshal(app)
			return err != nil || bytes.Contains(text, []byte(`"farebox_metadata"`))
		}
	}
	return true // not within an HTTP app: App.Start decides
}
