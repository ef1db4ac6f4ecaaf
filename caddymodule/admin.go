package caddymodule

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/admin"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the operations of package admin on Caddy's admin endpoint.
// It holds nothing: Caddy never cleans such a module up.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.farebox", New: func() caddy.Module { return new(adminAPI) }}
}

// Routes returns the one route below which all operations are.
func (a adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: admin.Path, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// serve asks for the bearer token and passes the request to the running store.
// On a unix socket the socket's own permissions say who may come.
func (a adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	operations := http.HandlerFunc(a.operate)
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch {
	case !ok:
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Message: "the admin listener's address is not known"}
	case local.Network() == "unix":
		operations.ServeHTTP(w, r)
	default:
		admin.RequireToken(admin.TokenFile(dataDir(), local.String()), operations).ServeHTTP(w, r)
	}
	return nil
}

func (a adminAPI) operate(w http.ResponseWriter, r *http.Request) {
	app, err := caddy.ActiveContext().AppIfConfigured("farebox")
	if err != nil {
		http.Error(w, `{"code":"UNAVAILABLE","error":"the running config does not use farebox"}`, http.StatusServiceUnavailable)
		return
	}
	fb := app.(*App)
	if r.URL.Path == serversPath || strings.HasPrefix(r.URL.Path, serversPath+"/") {
		fb.serveServers(w, r)
		return
	}
	service, release, err := fb.service()
	if errors.Is(err, errNoOwnStore) {
		http.Error(w, `{"code":"INVALID","error":"`+err.Error()+`"}`, http.StatusUnprocessableEntity)
		return
	}
	if err != nil {
		http.Error(w, `{"code":"UNAVAILABLE","error":"the store is not open: try again in a moment"}`, http.StatusServiceUnavailable)
		return
	}
	defer release()
	admin.NewHandler(service, "admin endpoint", fb.logger).ServeHTTP(w, r)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
