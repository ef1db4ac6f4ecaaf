// Package authserver implements the directive farebox_oauth, with which the gateway issues
// tokens for its own MCP servers: one OAuth issuer for each server that has the option
// oauth without authorization_servers.
package authserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/caddymodule/opening"
	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/oauth/server"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is the authorization server (OAuth 2.1) of the MCP servers of the config that
// have `oauth` without `authorization_servers`. People say at its consent page which
// account pays for the calls of a client, and the client gets tokens. Each server has an
// issuer of its own, at `/oauth/` and the server's name. Other requests go on to the next
// handler. It needs a store of its own, so it cannot run at a gateway with a remote store.
type Handler struct {
	// How long an access token is valid. Default: 15d.
	Access caddy.Duration `json:"access,omitempty"`

	// How long a refresh token is valid. Each refresh gives a new one. Default: 30d.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// Redirect URIs that clients may register, beside those of known clients and those at
	// loopback addresses. An asterisk at the end stands for any rest of the path.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// Whether clients can register themselves: `on` or `off`. Default: on.
	Registration string `json:"registration,omitempty"`

	// Whether a client id may be the URL of a metadata document: `on` or `off`. Default:
	// on.
	Documents string `json:"documents,omitempty"`

	// The hosts from which metadata documents are fetched. Default: all public hosts.
	DocumentHosts []string `json:"document_hosts,omitempty"`

	// Client ids, and hosts of client ids, that are refused.
	Deny []string `json:"deny,omitempty"`

	// Clients that need no registration.
	Clients []Client `json:"clients,omitempty"`

	// Also fetch metadata documents from private addresses. Strangers can then have
	// requests sent into the network of this process, so it is for tests only.
	PrivateDocuments bool `json:"private_documents,omitempty"`

	logger  *slog.Logger
	app     owner
	running *opening.Runtime
	server  atomic.Pointer[server.Server]
	clients *client.Registry
	cancel  context.CancelFunc
}

// Client is a client of the config.
type Client struct {
	// The client id.
	ID string `json:"id"`

	// The name of the client for people.
	Name string `json:"name,omitempty"`

	// Secrets of the client, or `sha256:` and the digest of a secret. Any of them is
	// accepted, so that a secret can be replaced. Placeholders such as `{env.SECRET}`
	// keep them out of the config. Default: none, for a public client.
	Secrets []string `json:"secrets,omitempty"`

	// The redirect URIs of the client.
	RedirectURIs []string `json:"redirect_uris,omitempty"`

	// The account, by name or id, that pays for the client's own calls. The client then
	// gets tokens by `client_credentials`.
	Account string `json:"account,omitempty"`

	// The scopes of those tokens.
	Scopes []string `json:"scopes,omitempty"`
}

// Resource is an MCP server that the gateway issues tokens for.
type Resource struct {
	*resource.Resource
	Environments []keys.Environment // environments of keys that the server admits
}

// owner is the part of the app that a Handler uses.
type owner interface {
	Status() *health.Status
	Catalogue() *keys.Catalogue
	ServeOAuth()
	OwnResources() []Resource
	OAuthLink() *Link
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_oauth", New: func() caddy.Module { return new(Handler) }}
}

// Provision registers the handler with the app. It does not open the store, because
// `caddy validate` also calls Provision.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger, h.running = ctx.Slogger(), opening.New()
	loaded, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	h.app = loaded.(owner)
	h.app.ServeOAuth()
	h.app.Status().OnBind(h.bind)
	_, err = h.registry(nil)
	return err
}

// Validate checks the durations and the switches.
func (h *Handler) Validate() error {
	if h.Access < 0 || h.Refresh < 0 {
		return errors.New("farebox_oauth: access and refresh cannot be below zero")
	}
	if l := h.lives(); l.Access > l.Refresh {
		return fmt.Errorf("farebox_oauth: access %s is longer than refresh, which is %s: lower the first or raise the second", l.Access, l.Refresh)
	}
	for name, value := range map[string]string{"registration": h.Registration, "documents": h.Documents} {
		if value != "" && value != "on" && value != "off" {
			return fmt.Errorf("farebox_oauth: %s %q: want on or off", name, value)
		}
	}
	return nil
}

func (h *Handler) lives() oauth.Lives {
	return oauth.Lives{Access: cmp.Or(time.Duration(h.Access), oauth.DefaultAccessLife), Refresh: cmp.Or(time.Duration(h.Refresh), oauth.DefaultRefreshLife)}
}

// registry returns the registry of the config's clients, with the store of registered
// clients.
func (h *Handler) registry(store client.Store) (*client.Registry, error) {
	o := client.Options{
		Store: store, Fetch: fetch.New(fetch.Options{Private: h.PrivateDocuments}), Logger: h.logger,
		RedirectURIs: h.RedirectURIs, NoDocuments: h.Documents == "off", NoRegistration: h.Registration == "off", DocumentHosts: h.DocumentHosts, Denied: h.Deny,
	}
	for _, c := range h.Clients {
		d := client.Declared{ID: c.ID, Name: c.Name, RedirectURIs: c.RedirectURIs, Account: c.Account, Scopes: c.Scopes}
		for _, text := range c.Secrets {
			secret, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
			if err != nil {
				return nil, fmt.Errorf("farebox_oauth: the secret of client %s: %w", c.ID, err)
			}
			digest, err := client.ParseSecret(secret)
			if err != nil {
				return nil, fmt.Errorf("farebox_oauth: client %s: %w", c.ID, err)
			}
			d.Secrets = append(d.Secrets, digest)
		}
		if err := h.app.Catalogue().Check(c.Scopes, false); err != nil {
			return nil, fmt.Errorf("farebox_oauth: client %s: %w", c.ID, err)
		}
		o.Static = append(o.Static, d)
	}
	r, err := client.New(o)
	if err != nil {
		return nil, fmt.Errorf("farebox_oauth: %w", err)
	}
	return r, nil
}

// errNoGrants is the error for a store that keeps no grants.
var errNoGrants = errors.New("farebox_oauth needs a store of its own: of this kind of store another Farebox is the platform, and farebox_oauth belongs there")

// expireEvery is the pause between two deletions of clients that are not used any more.
const expireEvery = 10 * time.Minute

// bind makes the issuers, and gives the engine's runtime to them.
func (h *Handler) bind(rt *engine.Runtime) error {
	store := rt.OAuthClients()
	if store == nil {
		return errNoGrants
	}
	var err error
	if h.clients, err = h.registry(store); err != nil {
		return err
	}
	issuers, err := h.issuers()
	if err != nil {
		return err
	}
	made, err := server.New(server.Options{
		Issuers: issuers, Open: h.open, Clients: func() (*client.Registry, error) { return h.clients, nil }, Scopes: h.app.Catalogue(), Lives: h.lives(),
		NoRegistration: h.Registration == "off", NoDocuments: h.Documents == "off",
		Console: h.app.OAuthLink().consent(), Currency: h.app.Status().Currency, Now: now, Logger: h.logger,
	})
	if err != nil {
		return err
	}
	h.server.Store(made)
	h.app.OAuthLink().server.Store(made)
	h.running.Set(rt)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go h.expire(ctx)
	return nil
}

// now returns the time at the precision of the store.
func now() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }

// expire deletes clients that are not used any more, until ctx ends.
func (h *Handler) expire(ctx context.Context) {
	for clock.Sleep(ctx, expireEvery) == nil {
		if h.running.Acquire(ctx) != nil {
			continue
		}
		if _, err := h.clients.Expire(ctx); err != nil && ctx.Err() == nil {
			h.logger.Warn("old OAuth clients could not be deleted", "error", err)
		}
		h.running.Release()
	}
}

// Cleanup ends the background task.
func (h *Handler) Cleanup() error {
	if h.cancel != nil {
		h.cancel()
	}
	return nil
}

// issuers returns the issuers of the config's own resources.
func (h *Handler) issuers() (all []*server.Issuer, err error) {
	declared := h.app.Catalogue()
	for _, r := range h.app.OwnResources() {
		u, err := url.Parse(r.Issuer())
		if err != nil {
			return nil, err
		}
		i := &server.Issuer{URL: u, Server: r.Server(), Title: r.Title(), Resource: r.Identifier(), Default: r.Needs(), Environments: r.Environments}
		names := r.Scopes()
		if len(names) == 0 {
			names = declared.Names()
		}
		for _, name := range names {
			i.Scopes = append(i.Scopes, server.Scope{Name: name, Description: declared.Description(name)})
		}
		all = append(all, i)
	}
	return all, nil
}

// open returns the running engine, and a function that releases it.
func (h *Handler) open(ctx context.Context) (server.Backend, func(), error) {
	if err := h.running.Acquire(ctx); err != nil {
		return nil, nil, err
	}
	return backend{h.running.Engine()}, h.running.Release, nil
}

// backend is the engine as the server uses it.
type backend struct{ *engine.Runtime }

// Payer returns the stored key with the secret.
func (b backend) Payer(ctx context.Context, source netip.Addr, secret string) (*keys.Key, error) {
	digest, err := b.Secrets().Parse(secret)
	if err != nil {
		return nil, err
	}
	return b.Lookup(ctx, source, digest)
}

// Account returns the id and the name of the account with the name or id.
func (b backend) Account(ctx context.Context, ref string) (id, name string, err error) {
	a, err := b.Accounts().Account(ctx, ref)
	return a.ID, a.Name, err
}

// Sealer returns the sealer of the process.
func (b backend) Sealer() server.Sealer { return b.Runtime.Sealer() }

// ServeHTTP serves requests for the issuers, and passes others on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := h.server.Load()
	if s == nil { // the store is not open yet
		if !maybeOurs(r.URL.Path) {
			return next.ServeHTTP(w, r)
		}
		if err := h.running.Acquire(r.Context()); err != nil {
			return caddyhttp.Error(http.StatusServiceUnavailable, err)
		}
		h.running.Release()
		s = h.server.Load()
	}
	if strings.HasSuffix(r.URL.Path, server.ConsentPath) {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true) // the response has an authorization code in its header; the audit log has the decision
	}
	if s.Serve(w, r, target.Client(r)) {
		return nil
	}
	return next.ServeHTTP(w, r)
}

// maybeOurs reports whether a path can be that of an issuer.
func maybeOurs(path string) bool {
	return strings.HasPrefix(path, resource.IssuerPath) || strings.HasPrefix(path, "/.well-known/oauth-authorization-server") || strings.HasPrefix(path, "/.well-known/openid-configuration")
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
