package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/accesslog"
	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/caddymodule/opening"
	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/platform"
)

func init() {
	caddy.RegisterModule(Platform{})
	httpcaddyfile.RegisterHandlerDirective("farebox_platform", parsePlatform)
	httpcaddyfile.RegisterDirectiveOrder("farebox_platform", httpcaddyfile.After, "encode")
}

// Platform serves the HTTP API of Farebox, under `/api/v1`. The API is for servers
// that charge by themselves, for gateways without a store, and for managers of
// accounts and keys. Each client has its own key. Requests for other paths go to the
// next handler.
type Platform struct {
	// The servers that charge through the API, in addition to the servers of all
	// `farebox` handlers in the same config.
	Servers []PlatformServer `json:"servers,omitempty"`

	logger *slog.Logger
	app    *App

	running *opening.Runtime
	api     *platform.Platform // set before the platform can serve
}

// PlatformServer is a server that charges through the API.
type PlatformServer struct {
	// The name of the server, as used in receipts and in the allowed servers of
	// keys.
	Server string `json:"server"`

	// The name of the account that earns. It is created if it does not exist.
	Provider string `json:"provider"`

	// The environments of the keys that are admitted: `live`, `test`, or both.
	// Default: both.
	Environments []string `json:"environments,omitempty"`

	// The share of each charge that the operator keeps. Default: none.
	Fee *Fee `json:"fee,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Platform) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_platform", New: func() caddy.Module { return new(Platform) }}
}

// Provision checks the config. It does not open the store, because `caddy validate`
// also calls Provision.
func (p *Platform) Provision(ctx caddy.Context) error {
	p.logger = ctx.Slogger()
	p.running = opening.New()
	for i := range p.Servers {
		if err := p.Servers[i].check(); err != nil {
			return fmt.Errorf("farebox_platform: server %q: %w", p.Servers[i].Server, err)
		}
	}
	loaded, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	p.app = loaded.(*App)
	if p.app.Store.Driver == stores.Remote {
		return errors.New("farebox_platform serves accounts, and the store of this config is another platform's: take farebox_platform out, or name a store of its own")
	}
	if err := p.app.checkSites(ctx); err != nil {
		return err
	}
	return p.app.registerPlatform(p)
}

func (s *PlatformServer) check() error {
	if !keys.ValidServer(s.Server) {
		return errServerName
	}
	if err := checkProvider(s.Provider); err != nil {
		return err
	}
	if _, err := parseEnvironments(s.Environments); err != nil {
		return fmt.Errorf("environments: %w", err)
	}
	_, err := s.Fee.compile(s.Provider)
	return err
}

// parseEnvironments parses the names of environments.
func parseEnvironments(names []string) (all []keys.Environment, err error) {
	for _, name := range names {
		e, err := keys.ParseEnvironment(name)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// earner is the provider and the fee that one part of the config names for a server.
type earner struct {
	provider string
	fee      Fee
}

func earnerOf(provider string, fee *Fee) earner {
	e := earner{provider: provider}
	if fee != nil {
		e.fee = *fee
	}
	return e
}

// registerPlatform adds a platform, which Start will bind to the runtime.
func (a *App) registerPlatform(p *Platform) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.platforms = append(a.platforms, p)
	return a.checkEarners()
}

// checkEarners returns an error if two parts of the config name different providers
// or fees for one server. The caller must hold the mutex.
func (a *App) checkEarners() error {
	known := make(map[string]earner)
	for _, h := range a.handlers {
		known[h.Server] = earnerOf(h.Provider, h.Fee)
	}
	for _, p := range a.platforms {
		for _, s := range p.Servers {
			e := earnerOf(s.Provider, s.Fee)
			if before, twice := known[s.Server]; twice && before != e {
				return fmt.Errorf("server %q is configured twice, with another provider or another fee", s.Server)
			}
			known[s.Server] = e
		}
	}
	return nil
}

// servers returns all servers of the config by name, and creates missing accounts. If a
// server has a handler, the environments of the handler win over those of a platform.
// The handlers must be bound first.
func (a *App) servers(ctx context.Context, service *admin.Service) (map[string]platform.Server, error) {
	all := make(map[string]platform.Server)
	for _, p := range a.platforms {
		for _, s := range p.Servers {
			server, err := earning(ctx, service, s.Provider, s.Fee)
			if err == nil {
				server.Environments, err = parseEnvironments(s.Environments)
			}
			if err != nil {
				return nil, fmt.Errorf("server %q: %w", s.Server, err)
			}
			all[s.Server] = server
		}
	}
	for _, h := range a.handlers {
		server := h.earns
		server.Environments = h.environments
		all[h.Server] = server
	}
	return all, nil
}

// earning returns the fee of a server, with the ids of its provider and its fee
// account. It creates missing accounts.
func earning(ctx context.Context, service *admin.Service, provider string, fee *Fee) (s platform.Server, err error) {
	by := admin.Actor{Name: "config"}
	account, err := service.EnsureAccount(ctx, by, provider)
	if err != nil {
		return s, fmt.Errorf("provider %q: %w", provider, err)
	}
	s.Provider = account.ID
	if fee == nil {
		return s, nil
	}
	if s.Fee, err = fee.compile(provider); err != nil {
		return s, err
	}
	if account, err = service.EnsureAccount(ctx, by, fee.Account); err != nil {
		return s, fmt.Errorf("fee account %q: %w", fee.Account, err)
	}
	s.FeeTo = account.ID
	return s, nil
}

// bindPlatforms gives the engine's runtime to the platforms, so that they can serve.
func (a *App) bindPlatforms(ctx context.Context, rt *engine.Runtime) error {
	if len(a.platforms) == 0 {
		return nil
	}
	book, charges := rt.Store().(platform.Ledger)
	store, finds := rt.Store().(platform.Store)
	if !charges || !finds || rt.Service() == nil {
		return errors.New("farebox_platform needs a store of its own: of this kind of store another Farebox is the platform")
	}
	servers, err := a.servers(ctx, rt.Service())
	if err != nil {
		return fmt.Errorf("farebox_platform: %w", err)
	}
	_, version := caddy.Version()
	for _, p := range a.platforms {
		p.api, err = platform.New(platform.Options{
			Servers: servers, Secrets: a.settings.Secrets, Currency: a.Currency, Version: version,
			Memory: shares.Memory, Keys: rt, Ledger: book, Store: store, Admin: rt.Service(), Alerts: rt.Alerts(), Grants: grantsOf(rt), Changes: rt.Revocations(), Signer: rt.Signer(), Sealer: rt.Sealer(), Limiter: rt.Limiter(),
			Watch: func(d keys.Digest) (changed, closing <-chan struct{}, end func()) {
				s := rt.Watch(d)
				return s.Changed, s.Closing, s.End
			},
			Logger: p.logger, Used: rt.Used,
			Charged: func(server string, paid ledger.Amount, test bool) { // the price entry is "other", because only the server that charges has the price book
				metrics.Charge(server, gate.Ended{Entry: "other", Result: gate.ResultCaptured, Amount: paid, Test: test})
			},
		})
		if err != nil {
			return fmt.Errorf("farebox_platform: %w", err)
		}
		p.running.Set(rt)
	}
	return nil
}

// ServeHTTP serves a request for the API, and passes other requests on.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !platform.Covers(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	if _, found := p.app.settings.Secrets.ConcealURI(r.RequestURI); found {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
		p.logger.Warn("a request to the platform was refused: its URL has a key in it, and is not logged")
		ops.KeyInURL(w)
		return nil
	}
	err := exchange.ErrCredentialsLogged
	if !accesslog.LogsCredentials(r) {
		err = p.running.Acquire(r.Context())
	}
	if err != nil {
		p.logger.Warn("the platform cannot answer now", "error", err)
		ops.Unavailable(w, "")
		return nil
	}
	defer p.running.Release()
	p.api.Serve(w, r, target.Client(r), func(key *keys.Key) {
		fields := identify(replacerOf(r), key.Account, key.ID)
		accesslog.AddFields(r, fields[:])
	})
	return nil
}

func parsePlatform(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var p Platform
	if err := p.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return &p, nil
}

// UnmarshalCaddyfile sets the platform up from the directive:
//
//	farebox_platform [<matcher>] {
//	    server <name> <account> {
//	        environments live|test...
//	        fee <share>% <account>
//	    }
//	}
func (p *Platform) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the directive's name
	if d.NextArg() {
		return d.Errf("farebox_platform takes a block and no arguments, not %q", d.Val())
	}
	return grammar.Block(d, "farebox_platform", grammar.Subdirectives{"server": p.parseServer}, "server")
}

func (p *Platform) parseServer(d *caddyfile.Dispenser) error {
	var s PlatformServer
	if !d.Args(&s.Server, &s.Provider) || d.NextArg() {
		return d.Err("server: want a name and the account that earns, as in: server weather acme")
	}
	for _, other := range p.Servers {
		if other.Server == s.Server {
			return d.Errf("server %q is given twice", s.Server)
		}
	}
	if err := s.check(); err != nil {
		return d.WrapErr(err)
	}
	err := grammar.Block(d, "server", grammar.Subdirectives{
		"environments": func(d *caddyfile.Dispenser) error {
			if err := grammar.Args(d, &s.Environments); err != nil {
				return err
			}
			if _, err := parseEnvironments(s.Environments); err != nil {
				return d.WrapErr(err)
			}
			return nil
		},
		"fee": func(d *caddyfile.Dispenser) (err error) {
			if s.Fee, err = feeArgs(d); err != nil {
				return err
			}
			if _, err := s.Fee.compile(s.Provider); err != nil {
				return d.WrapErr(err)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	p.Servers = append(p.Servers, s)
	return nil
}

// Interface guards: the compiler checks that Platform implements these interfaces.
var (
	_ caddy.Provisioner           = (*Platform)(nil)
	_ caddyhttp.MiddlewareHandler = (*Platform)(nil)
	_ caddyfile.Unmarshaler       = (*Platform)(nil)
)
