// Package console implements the directive farebox_console, which serves the web
// console of package internal/console at an address within a site of the Caddyfile.
package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/authserver"
	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/caddymodule/opening"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/console"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/scrape"
	"github.com/fareboxhq/farebox/internal/telemetry"
	"github.com/fareboxhq/farebox/internal/top"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler serves the web console, for operators and for the members of accounts.
// Requests for paths that do not belong to the console go to the next handler. The
// console needs a store of its own, so it cannot run at a gateway with a remote store.
// It also needs TLS, except on a loopback address.
type Handler struct {
	// The URL at which people open the console, such as
	// `https://gateway.example.com/console`. Passkeys belong to its host, and links in
	// invitations begin with it.
	Address string `json:"address"`

	// How long the link of an invitation works. Default: 30m.
	InvitationLife caddy.Duration `json:"invitation_life,omitempty"`

	// How long a session may be without a request before it ends. Default: 12h.
	SessionIdle caddy.Duration `json:"session_idle,omitempty"`

	// How long a session may last, even if it is in use. Default: 7d.
	SessionLife caddy.Duration `json:"session_life,omitempty"`

	// How people register without an invitation. Default: people need an invitation.
	Signup *Signup `json:"signup,omitempty"`

	// An OpenID provider that people can sign in by. Default: none.
	OIDC *OIDC `json:"oidc,omitempty"`

	logger  *slog.Logger
	running *opening.Runtime
	status  *health.Status
	address *url.URL
	console *console.Console
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_console", New: func() caddy.Module { return new(Handler) }}
}

// owner is the part of the app that a Handler uses.
type owner interface {
	Status() *health.Status
	OAuthLink() *authserver.Link
}

// Provision makes the console. It does not open the store, because `caddy validate`
// also calls Provision.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger, h.running = ctx.Slogger(), opening.New()
	var err error
	if h.address, err = parseAddress(h.Address); err != nil {
		return err
	}
	app, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	h.status = app.(owner).Status()
	link := app.(owner).OAuthLink()
	link.SetConsole(h.address.String())
	h.status.OnBind(h.bind)
	version, _, _ := telemetry.Build()
	h.console, err = console.New(console.Options{
		Connect: func() console.Connector {
			if s := link.Server(); s != nil {
				return s
			}
			return nil
		},
		Address: h.address, Open: h.open, Health: h.status.Health, Figures: h.figures(ctx), Node: engine.NodeName(), Currency: h.status.Currency, Version: version, Logger: h.logger,
		Operations: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.status.Internal().ServeHTTP(w, r) }),
	})
	return err
}

// figures returns a function that reads the current metrics of this process, from the
// registry that Caddy's endpoint /metrics shows.
func (h *Handler) figures(ctx caddy.Context) func() (*top.View, error) {
	registry := ctx.GetMetricsRegistry()
	return func() (*top.View, error) {
		if registry == nil {
			return nil, errors.New("the process has no registry of metrics")
		}
		sample, err := scrape.Gather(registry, clock.Now())
		if err != nil {
			return nil, err
		}
		return top.New("", scrape.SinceStart(sample)), nil
	}
}

// Validate checks the durations.
func (h *Handler) Validate() error {
	if h.InvitationLife < 0 || h.SessionIdle < 0 || h.SessionLife < 0 {
		return errors.New("farebox_console: invitation_life, session_idle and session_life cannot be below zero")
	}
	if life := cmp.Or(duration(h.SessionLife), people.DefaultSessionLife); duration(h.SessionIdle) > life {
		return fmt.Errorf("farebox_console: session_idle %s is longer than session_life, which is %s: lower the first or raise the second", duration(h.SessionIdle), life)
	}
	if duration(h.InvitationLife) > people.MaxInvitationLife {
		return fmt.Errorf("farebox_console: invitation_life is at most %d days", people.MaxInvitationLife/(24*time.Hour))
	}
	return h.checkPeople()
}

func duration(d caddy.Duration) time.Duration { return time.Duration(d) }

// parseAddress parses the address of a console. Plain HTTP is refused except on
// loopback, because passwords and sessions would cross the network unprotected.
func parseAddress(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("farebox_console: address %q: want the URL at which people open the console, as https://gateway.example.com/console", text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, fmt.Errorf("farebox_console: address %q: want a scheme, a host and a path, and no more", text)
	case u.EscapedPath() != u.Path || strings.Contains(u.Path, "//") || strings.ContainsAny(u.Path, "{}*"):
		return nil, fmt.Errorf("farebox_console: address %q: want a path of plain letters, digits and slashes", text)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("farebox_console: address %q: without TLS, passwords and sessions could be read on their way: use https, or a loopback address as http://localhost:8080/console", text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.Host = strings.ToLower(u.Host) // browsers send the origin like this (RFC 6454, section 6.2)
	if u.Port() == defaultPorts[u.Scheme] {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	return u, nil
}

var defaultPorts = map[string]string{"https": "443", "http": "80"}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// errNoPeople is the error for a store that keeps no people.
var errNoPeople = errors.New("farebox_console needs a store of its own: of this kind of store another Farebox is the platform, and the console belongs there")

// bind gives the engine's runtime to the console, so that it can serve. If nobody can
// sign in yet, bind logs a link that makes the first operator.
func (h *Handler) bind(rt *engine.Runtime) error {
	service := rt.People()
	if service == nil {
		return errNoPeople
	}
	settings, err := h.settings()
	if err != nil {
		return err
	}
	if err := service.Configure(settings); err != nil {
		return fmt.Errorf("farebox_console: %w", err)
	}
	h.running.Set(rt)
	return h.inviteFirst(service)
}

// link returns the address that opens an invitation.
func (h *Handler) link(secret string) string { return h.address.String() + "/invite/" + secret }

// inviteFirst logs the link of an invitation for the first operator if the store has no
// person yet.
func (h *Handler) inviteFirst(service *people.Service) error {
	ctx, cancel := context.WithTimeout(context.Background(), health.StartPatience)
	defer cancel()
	persons, _, err := service.Persons(ctx, people.PersonQuery{Page: ledger.Page{Limit: 1}})
	if err != nil || len(persons) > 0 {
		return err
	}
	i, secret, err := service.Invite(ctx, admin.Actor{Name: "config"}, people.NewInvitation{Operator: true})
	if err != nil {
		return fmt.Errorf("farebox_console: inviting the first operator: %w", err)
	}
	h.logger.Warn("nobody can sign in to the console yet: open the link to become its operator", "link", h.link(secret), "expires", i.ExpiresAt)
	return nil
}

// open returns the service for people of the running store, and a function that
// releases the store.
func (h *Handler) open() (*people.Service, func(), error) {
	if err := h.running.Acquire(context.Background()); err != nil {
		return nil, nil, err
	}
	return h.running.Engine().People(), h.running.Release, nil
}

// ServeHTTP serves requests for the console, and passes other requests on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !h.console.Covers(r.URL.Path) || !h.sameHost(r.Host) {
		return next.ServeHTTP(w, r)
	}
	if h.console.Secret(r.URL.Path) {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	if h.address.Scheme == "https" && r.TLS == nil && !proxied(r) {
		// Return no error, because Caddy would log the error together with the
		// request's path. The path may be the secret link of an invitation.
		http.Error(w, "The console is served over TLS only: open "+h.address.String()+". Behind a proxy that ends TLS, the global option trusted_proxies must name the proxy.", http.StatusForbidden)
		return nil
	}
	h.console.Serve(w, r, target.Client(r))
	return nil
}

// sameHost reports whether a request is for the console's own host. Another name for
// the same address could belong to somebody else (DNS rebinding).
func (h *Handler) sameHost(host string) bool {
	return strings.EqualFold(withPort(host, h.address.Scheme), withPort(h.address.Host, h.address.Scheme))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), defaultPorts[scheme])
}

// proxied reports whether a trusted proxy received the request over TLS; see the
// global option trusted_proxies.
func proxied(r *http.Request) bool {
	return target.Trusted(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Parse sets the handler up from the directive:
//
//	farebox_console <address> {
//	    invitation_life <duration>
//	    session_idle <duration>
//	    session_life <duration>
//	    signup {
//	        code <secret>
//	        domains <domain>...
//	        credit <amount>
//	    }
//	    oidc <issuer> <client id> [<client secret>] {
//	        name <text>
//	        domains <domain>...
//	        scopes <scope>...
//	        groups_claim <claim>
//	        member domain|group <name> <account> owner|viewer
//	    }
//	}
//
// The directive takes no matcher, because the address says which requests the console
// serves.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var handler Handler
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return &handler, nil
}

// UnmarshalCaddyfile sets the handler up from the directive; see Parse.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the directive's name
	if !d.Args(&h.Address) || d.NextArg() {
		return d.Err("farebox_console: want the URL at which people open the console, as in: farebox_console https://gateway.example.com/console")
	}
	if _, err := parseAddress(h.Address); err != nil {
		return d.WrapErr(err)
	}
	err := grammar.Block(d, "farebox_console", grammar.Subdirectives{
		"invitation_life": grammar.Duration(&h.InvitationLife),
		"session_idle":    grammar.Duration(&h.SessionIdle),
		"session_life":    grammar.Duration(&h.SessionLife),
		"signup":          h.parseSignup,
		"oidc":            h.parseOIDC,
	})
	if err != nil {
		return err
	}
	if err := h.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
