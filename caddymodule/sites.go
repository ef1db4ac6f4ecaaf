package caddymodule

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/routes"
	"github.com/fareboxhq/farebox/internal/exchange"
)

// checkSites checks, once for all sites of a config, that farebox guards the servers of
// the config. It returns an error if a handler has no effect, or if the access log
// would contain the keys that a handler takes. The error names the handler. checkSites
// also logs a warning for each proxy that bypasses a handler. checkSites runs when the
// first handler is provisioned, because "caddy validate" runs no later hook.
func (a *App) checkSites(ctx caddy.Context) error {
	a.mu.Lock()
	checked := a.sitesChecked
	a.sitesChecked = true
	a.mu.Unlock()
	modules := ctx.Modules()
	i := slices.IndexFunc(modules, func(m caddy.Module) bool { _, ok := m.(*caddyhttp.App); return ok })
	if checked || i < 0 {
		return nil
	}
	found := routes.Look(modules[i].(*caddyhttp.App))
	if found.LogsCredentials != "" {
		return fmt.Errorf("%s: %w", found.LogsCredentials, exchange.ErrCredentialsLogged)
	}
	for _, b := range found.Bypasses {
		a.logger.Warn("a reverse_proxy reaches a server past farebox: who calls there needs no key and pays nothing",
			"server", b.Guard.Server, "farebox", b.Guard.Source, "reverse_proxy", b.Lines, "upstream", b.Upstream,
			"advice", "put a farebox before that reverse_proxy, or take it out; if it serves nothing of MCP, give it a path of its own at the upstream")
	}
	return found.Idle
}
