package caddymodule

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/internal/registration"
)

// serveRegistration lets the rest of the site answer a registration first, because the
// site may have an authorization server or a page of its own at the requested path. If
// nothing answers, serveRegistration refuses the registration.
func (m *Metadata) serveRegistration(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if slices.ContainsFunc(m.app.resources(), func(known *resource.Resource) bool { return known.IsAt(r.Host) }) {
		return next.ServeHTTP(w, r) // a resource at this host has metadata, so clients can register with the authorization server named there
	}
	recorder := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := next.ServeHTTP(recorder, r)
	if recorder.Status() != 0 {
		return err
	}
	var handled caddyhttp.HandlerError
	if err != nil && !(errors.As(err, &handled) && (handled.StatusCode == http.StatusNotFound || handled.StatusCode == http.StatusMethodNotAllowed)) {
		return err
	}
	registration.Refuse(w, m.app.settings.Secrets, "", m.app.Contact)
	return nil
}
