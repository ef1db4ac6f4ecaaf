package caddymodule

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
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

// Routes returns one route, which has all operations below it.
func (a adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: ops.AdminBase + "/", Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	app, err := caddy.ActiveContext().AppIfConfigured("farebox")
	if err != nil {
		ops.Unavailable(w, "the running config does not use farebox")
		return nil
	}
	app.(*App).operations().ServeHTTP(w, r)
	return nil
}

// newOperations returns the admin endpoint of a running config.
func (a *App) newOperations() http.Handler {
	m := ops.NewAdminEndpoint(admin.Local{Dir: dataDir, Name: "admin endpoint"}, a.logger)
	ops.Register(m, a.openService, ops.Store())
	ops.Register(m, ops.Always[ops.Servers](a), ops.OnServers())
	return m
}

// openService returns the service of the running store. The store stays open until
// the caller calls release.
func (a *App) openService() (service *admin.Service, release func(), err error) {
	service, release, err = a.service()
	switch {
	case errors.Is(err, stores.ErrNoOwnStore):
		err = &admin.Error{Code: admin.Invalid, Message: err.Error()}
	case err != nil:
		err = &admin.Error{Code: admin.Unavailable, Message: "the store is not open: try again in a moment"}
	}
	return service, release, err
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
