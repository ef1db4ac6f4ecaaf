package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/registration"
)

func init() {
	caddy.RegisterModule(new(Metadata))
}

// Metadata answers requests that clients make before they call an MCP server. It serves
// the OAuth 2.0 protected resource metadata (RFC 9728) of all servers of the config
// that have `oauth`, at `/.well-known/oauth-protected-resource` and below. It also
// answers clients that want to register with an authorization server, by a POST to
// `/register`. The answer says that they need a key in place of a registration. If the
// rest of the site has an answer of its own, or if a server at the same host has
// `oauth`, the request goes to the rest of the site instead. Other requests go on to
// the next handler. The handler must receive requests for those paths, so it stands
// outside routes for a server's own path.
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
	h.Next() // skips the directive's name
	if h.NextArg() {
		return nil, h.Errf("farebox_metadata takes no arguments, not %q", h.Val())
	}
	if h.NextBlock(0) {
		return nil, h.Err("farebox_metadata has no block: what it serves stands in oauth, in the farebox directives")
	}
	return new(Metadata), nil
}

const metadataMethods = "GET, HEAD, OPTIONS"

// ServeHTTP serves metadata, refuses registrations, and passes other requests on.
func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if registration.Asks(r) {
		return m.serveRegistration(w, r, next)
	}
	below, ok := strings.CutPrefix(r.URL.Path, resource.WellKnown)
	if !ok || below != "" && below[0] != '/' {
		return next.ServeHTTP(w, r)
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // the metadata is public, and web pages read it before they have a token
	found, slash := m.app.resources().Find(r.Host, below)
	if found == nil {
		return caddyhttp.Error(http.StatusNotFound, exchange.ErrNoMetadata)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return found.WriteMetadata(w, slash)
	case http.MethodOptions:
		h.Set("Allow", metadataMethods)
		h.Set("Access-Control-Allow-Methods", metadataMethods)
		h.Set("Access-Control-Allow-Headers", "*") // allows any header, because clients send headers such as MCP-Protocol-Version
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h.Set("Allow", metadataMethods)
	return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("the method is %s, not one of %s", r.Method, metadataMethods))
}

// resources returns the protected resources of all handlers, one for each URL. Call
// it after all handlers have registered, which is before any request is served.
func (a *App) resources() resource.List {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all resource.List
	for _, h := range a.handlers {
		if h.resource != nil && !slices.ContainsFunc(all, h.resource.SameURL) {
			all = append(all, h.resource)
		}
	}
	return all
}

// needMetadata returns an error if a server has oauth and no handler serves its
// metadata. If pending is true, Caddy may still provision such a handler, and there
// is no error yet.
func (a *App) needMetadata(pending bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hasMetadata || pending {
		return nil
	}
	for _, h := range a.handlers {
		if h.resource != nil {
			return fmt.Errorf("%s has oauth, and nothing serves its metadata: add the line farebox_metadata to the site, beside the handle blocks and not in one (in JSON, the handler farebox_metadata)", h.Guard())
		}
	}
	return nil
}

// needOAuth returns an error if a server has the gateway's own issuer and no handler
// serves the issuer.
func (a *App) needOAuth() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.handlers {
		if h.resource != nil && h.resource.Own() && !a.hasOAuth {
			return fmt.Errorf("%s has oauth without authorization_servers, so the gateway issues its tokens, and nothing does: add the line farebox_oauth to the site, beside farebox_metadata, or name authorization_servers", h.Guard())
		}
	}
	return nil
}

// metadataPending reports whether the config has a handler for metadata that Caddy may
// not have provisioned yet. Caddy has no suitable hook: "caddy validate" runs no hook
// after the last handler is provisioned. So metadataPending examines the HTTP app's
// JSON, which contains a list of handlers until the whole list has been provisioned.
func metadataPending(ctx caddy.Context) bool {
	for _, module := range ctx.Modules() {
		if app, ok := module.(*caddyhttp.App); ok {
			text, err := json.Marshal(app)
			return err != nil || bytes.Contains(text, []byte(`"farebox_metadata"`))
		}
	}
	return true // the handler is not part of an HTTP app, so App.Start checks for the metadata later
}
