package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the operations of package ops on Caddy's admin endpoint. It has no
// state, because Caddy never cleans up admin modules.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.farebox", New: func() caddy.Module { return new(adminAPI) }}
}

// Routes returns a single route, which covers the paths of all operations.
func (a adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: ops.AdminBase + "/", Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	status, why := health.Running()
	if status == nil {
		ops.Unavailable(w, why)
		return nil
	}
	status.Operations().ServeHTTP(w, r)
	return nil
}

// newOperations returns the handler of the operations on the running config. It serves
// only principals that auth authenticates.
func (a *App) newOperations(auth identity.Authenticator) http.Handler {
	m := ops.NewAdminEndpoint(auth, a.logger)
	ops.Register(m, a.openService, ops.Store())
	ops.Register(m, a.openPeople, ops.OnPeople())
	ops.Register(m, a.openAlerts, ops.OnAlerts())
	ops.Register(m, a.openGrants, ops.OnGrants())
	ops.Register(m, ops.Always[ops.Servers](a), ops.OnServers())
	ops.Register(m, ops.Always[ops.Nodes](a), ops.OnNodes())
	ops.Register(m, ops.Always[ops.Health](&a.health), ops.OnHealth())
	return m
}

// openService returns the service of the running store. The store stays open until
// the caller calls release.
func (a *App) openService() (*admin.Service, func(), error) {
	return opened(a, (*engine.Runtime).Service)
}

// openPeople is like openService, but returns the service for people, the users of the
// console.
func (a *App) openPeople() (*people.Service, func(), error) {
	return opened(a, (*engine.Runtime).People)
}

// openGrants is like openService, but returns the OAuth grants.
func (a *App) openGrants() (*ops.Grants, func(), error) { return opened(a, grantsOf) }

func grantsOf(rt *engine.Runtime) *ops.Grants {
	return &ops.Grants{OAuth: rt.OAuth(), Accounts: rt.Service()}
}

// opened returns a service of the running store, and a function that releases the store.
func opened[S any](a *App, of func(*engine.Runtime) S) (service S, release func(), err error) {
	a.mu.Lock()
	rt := a.running
	a.mu.Unlock()
	if rt == nil || rt.Acquire() != nil {
		return service, nil, &admin.Error{Code: admin.Unavailable, Message: "the store is not open: try again in a moment"}
	}
	if rt.Service() == nil {
		rt.Release()
		return service, nil, &admin.Error{Code: admin.Invalid, Message: stores.ErrNoOwnStore.Error()}
	}
	return of(rt), rt.Release, nil
}

// Interface guard: the compiler checks that adminAPI implements the interface.
var _ caddy.AdminRouter = (*adminAPI)(nil)
